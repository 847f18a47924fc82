"""Headers of the topics' records as models: for schemas and tests. Their values are UTF-8 text.

Further headers are allowed everywhere: only those that are named are held.
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
        description="where the command came from: topic id:partition:offset",
    ),
]


def _absent_or_text(schema: dict[str, Any]) -> None:
    """A header that may be absent is never null."""
    for field in schema["properties"].values():
        if field.pop("default", ...) is None:
            [text] = [kind for kind in field.pop("anyOf") if kind != {"type": "null"}]
            field.update(text)


class RecordHeaders(BaseModel):
    """What every model of headers has in common."""

    model_config = ConfigDict(extra="allow", frozen=True, json_schema_extra=_absent_or_text)


class TraceHeaders(RecordHeaders):
    """The trace context (W3C) of the command behind the record, if it came with one."""

    traceparent: str | None = None
    tracestate: str | None = None


def _event_or_none(schema: dict[str, Any]) -> None:
    _absent_or_text(schema)
    schema["if"] = {"required": ["ce_specversion"]}
    schema["then"] = {"required": ["ce_id", "ce_source", "ce_type"]}


class EventHeaders(TraceHeaders):
    """How a record says that it is a CloudEvent 1.0; without these headers it is none.

    Structured mode is told by the content type, binary mode by `ce_specversion`.
    """

    model_config = ConfigDict(json_schema_extra=_event_or_none)

    content_type: Annotated[str | None, Field(alias="content-type")] = None
    ce_specversion: Literal["1.0"] | None = None
    ce_id: Attribute | None = None
    ce_source: Attribute | None = None
    ce_type: Attribute | None = None


EventId = Annotated[
    str,
    Field(
        pattern="^[0-9]+:[0-9]+(:[0-9]+)?$",
        description="partition:offset of the record behind it, and its number among what follows",
    ),
]


class ProducedEventHeaders(TraceHeaders):
    """With `kafka.cloudevents` the record is a CloudEvent 1.0 in binary mode, without it none."""

    model_config = ConfigDict(json_schema_extra=_event_or_none)

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


def log_headers(kind: str, *, from_router: bool) -> type[RecordHeaders]:
    """The headers of one type of log record."""
    fields: dict[str, Any] = {"type": (Literal[kind], ...)}
    if from_router:
        fields["src"] = (LogSource, ...)
    return create_model(
        f"{kind.title()}Headers",
        __base__=RecordHeaders,
        __doc__=f"Headers of `{kind}`.",
        **fields,
    )


_CONNECT = "__connect.errors."
Number = Annotated[str, Field(pattern="^[0-9]+$")]


class DeadLetterHeaders(RecordHeaders):
    """Why a record stands on segments.dlq, beside the headers that it had."""

    topic: Annotated[str, Field(alias=f"{_CONNECT}topic")]
    partition: Annotated[Number, Field(alias=f"{_CONNECT}partition")]
    offset: Annotated[Number, Field(alias=f"{_CONNECT}offset")]
    stage: Annotated[
        Literal["decode", "validate", "size", "unexpected", "fetch"],
        Field(alias=f"{_CONNECT}stage"),
    ]
    exception: Annotated[str, Field(alias=f"{_CONNECT}exception.class.name")]
    message: Annotated[str, Field(alias=f"{_CONNECT}exception.message")]
