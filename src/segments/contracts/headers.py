"""Record headers of the topics as models, for schemas and tests. Values are UTF-8 text.

Additional headers are allowed everywhere; only the ones declared here are validated.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from segments.contracts.cloudevents.schemas import Attribute
from segments.contracts.times import InstantText

LogSource = Annotated[
    str,
    Field(
        pattern="^[0-9a-f]{32}:[0-9]+:[0-9]+$",
        description="source of the command: topic id:partition:offset",
    ),
]


def _absent_or_text(schema: dict[str, Any]) -> None:
    """Make nullable fields optional instead: a header may be absent but never null."""
    for field in schema["properties"].values():
        if field.pop("default", ...) is None:
            [present] = [option for option in field.pop("anyOf") if option != {"type": "null"}]
            field.update(present)


class HeaderModel(BaseModel):
    """Base of all header models."""

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_absent_or_text)


class TraceHeaders(HeaderModel):
    """W3C trace context of the command that caused the record, if it had one."""

    traceparent: str | None = None
    tracestate: str | None = None


def _complete_event_or_none(schema: dict[str, Any]) -> None:
    _absent_or_text(schema)
    schema["if"] = {"required": ["ce_specversion"]}
    schema["then"] = {"required": ["ce_id", "ce_source", "ce_type"]}


class EventHeaders(TraceHeaders):
    """Headers of a CloudEvent 1.0; without them the record is not a CloudEvent.

    The content type indicates structured mode, `ce_specversion` binary mode.
    """

    model_config = ConfigDict(json_schema_extra=_complete_event_or_none)

    content_type: Annotated[str | None, Field(alias="content-type")] = None
    ce_specversion: Literal["1.0"] | None = None
    ce_id: Attribute | None = None
    ce_source: Attribute | None = None
    ce_type: Attribute | None = None


EventId = Annotated[
    str,
    Field(
        pattern="^[0-9]+:[0-9]+(:[0-9]+)?$",
        description="partition:offset of the record that caused it, and the index of the event",
    ),
]


class ProducedEventHeaders(TraceHeaders):
    """Headers of a CloudEvent 1.0 in binary mode; only with the setting `kafka.cloudevents`."""

    model_config = ConfigDict(json_schema_extra=_complete_event_or_none)

    content_type: Annotated[Literal["application/json"] | None, Field(alias="content-type")] = None
    ce_specversion: Literal["1.0"] | None = None
    ce_id: EventId | None = None
    ce_source: Attribute | None = None
    ce_time: InstantText | None = None
    ce_subject: Attribute | None = None


class ResultHeaders(ProducedEventHeaders):
    """Headers of segments.results. The subject is the command's id."""

    ce_type: (
        Literal[
            "segments.command.applied", "segments.command.unchanged", "segments.command.rejected"
        ]
        | None
    ) = None


class HistoryHeaders(ProducedEventHeaders):
    """Headers of segments.history. The subject is the user's id."""

    ce_type: (
        Literal[
            "segments.membership.add", "segments.membership.remove", "segments.membership.extend"
        ]
        | None
    ) = None


def log_headers(log_type: str, *, from_router: bool) -> type[HeaderModel]:
    """The headers of one type of log record."""
    fields: dict[str, Any] = {"type": (Literal[log_type], ...)}
    if from_router:
        fields["src"] = (LogSource, ...)
    return create_model(
        f"{log_type.title()}Headers",
        __base__=HeaderModel,
        __doc__=f"Headers of `{log_type}`.",
        **fields,
    )


_CONNECT = "__connect.errors."
Number = Annotated[str, Field(pattern="^[0-9]+$")]


class DeadLetterHeaders(HeaderModel):
    """Why a record is on segments.dlq, in addition to its original headers."""

    topic: Annotated[str, Field(alias=f"{_CONNECT}topic")]
    partition: Annotated[Number, Field(alias=f"{_CONNECT}partition")]
    offset: Annotated[Number, Field(alias=f"{_CONNECT}offset")]
    stage: Annotated[
        Literal["decode", "validate", "size", "unexpected", "fetch"],
        Field(alias=f"{_CONNECT}stage"),
    ]
    exception: Annotated[str, Field(alias=f"{_CONNECT}exception.class.name")]
    message: Annotated[str, Field(alias=f"{_CONNECT}exception.message")]
