"""CloudEvents 1.0 in structured mode with a command or a user event, for schemas and tests.

`segments.contracts.cloudevents.incoming` parses them.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from segments.contracts.cloudevents.incoming import ATTRIBUTE_MAX_LENGTH
from segments.contracts.commands import Command
from segments.contracts.events import UserEvent

Attribute = Annotated[str, Field(min_length=1, max_length=ATTRIBUTE_MAX_LENGTH)]

JsonMediaType = Annotated[
    str,
    Field(
        pattern=r"^\s*[^/\s]+/([jJ][sS][oO][nN]|[^;\s]+\+[jJ][sS][oO][nN])\s*(;.*)?$",
        description="absent: application/json",
    ),
]
Base64 = Annotated[str, Field(pattern="^[A-Za-z0-9+/]*={0,2}$", description="the data in base64")]


def _data_in_one_form(schema: dict[str, Any]) -> None:
    schema["oneOf"] = [{"required": [name]} for name in ("data", "data_base64")]
    for name in ("data", "data_base64"):
        field = schema["properties"][name]
        del field["default"]
        schema["properties"][name] = field.pop("anyOf")[0] | field


class _Envelope(BaseModel):
    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_data_in_one_form)

    specversion: Annotated[str, Field(pattern=r"^1\.0$")]
    id: Attribute
    source: Attribute
    type: Attribute
    datacontenttype: JsonMediaType | None = None
    data_base64: Base64 | None = None


class CommandEvent(_Envelope):
    """A command in a CloudEvent. Its id, if absent, is derived from the event's source and id."""

    data: Command | None = None


class UserEventEvent(_Envelope):
    """A user event in a CloudEvent."""

    data: UserEvent | None = None
