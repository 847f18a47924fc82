"""Common parts of the response bodies: timestamps, positions, examples."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Instant = Annotated[
    str,
    Field(
        pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$",
        description="RFC 3339, UTC, with milliseconds",
        json_schema_extra={"format": "date-time"},
    ),
]
CanonicalId = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        json_schema_extra={"format": "uuid"},
    ),
]
LogPosition = Annotated[
    str,
    Field(pattern=r"^\d{1,4}:\d{1,19}$", description="`partition:offset` in the shard log"),
]
Count = Annotated[int, Field(ge=0)]
Next = Annotated[
    str | None,
    Field(description="the `cursor` of the next page; null on the last page"),
]

EXAMPLE_USER_ID = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
EXAMPLE_TIME = "2026-11-24T22:17:00.966Z"


def example(value: dict[str, Any]) -> ConfigDict:
    """Model configuration of a body with an example."""
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [value]})


class ResponseBody(BaseModel):
    """Base of response bodies and their parts."""

    model_config = ConfigDict(extra="forbid", frozen=True)
