"""What HTTP answers with: the bodies of its JSON answers.

Handlers put their bodies together without these models, for speed. They describe the bodies in the
OpenAPI document, and the tests hold every answer against them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from segments.contracts.auto import AutoAccount
from segments.contracts.documents import HistoryRow, Origin, Result
from segments.contracts.events import Account
from segments.contracts.names import SegmentName

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
PositionText = Annotated[
    str,
    Field(pattern=r"^\d{1,4}:\d{1,19}$", description="`partition:offset` of the shard's log"),
]
Count = Annotated[int, Field(ge=0)]
Next = Annotated[
    str | None,
    Field(description="the `cursor` of the next page; null at the end of the list"),
]

_USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
_AT = "2026-11-24T22:17:00.966Z"
_MEMBERSHIP = {"segment": "newsletter", "since": _AT, "expires_at": None, "origin": "command"}
_ROW = {
    "id": "0:84",
    "user_id": _USER,
    "segment": "newsletter",
    "generation": 1,
    "operation": "add",
    "at": _AT,
    "cause": "command",
    "command_id": "order-4711",
    "actor": None,
    "expires_at": None,
}
_SEGMENT = {
    "segment": "newsletter",
    "generation": 1,
    "version": 1,
    "state": "active",
    "description": "whoever wants news",
    "created_at": _AT,
    "auto": None,
    "position": "6:204",
    "size": 149,
}
_JOB = {
    "job_id": "5f0c1a52-7c5e-4f0e-9d0c-0a3d0e9f7c11",
    "state": "done",
    "destination": "archive",
    "month": "2026-11",
    "timezone": None,
    "segment": None,
    "user_id": None,
    "operations": None,
    "header": True,
    "created_at": _AT,
    "started_at": _AT,
    "finished_at": "2026-11-24T22:17:01.204Z",
    "attempts": 1,
    "complete_until": _AT,
    "name": "2026-11_header_d2ab6a0f_until-20261124T221700.966Z.csv",
    "rows_total": 459,
    "rows_written": 459,
    "bytes_written": 35811,
    "url": "https://files.example/reports/2026-11_header_d2ab6a0f_until-20261124T221700.966Z.csv",
    "url_expires_at": None,
    "error": None,
}


def _example(value: dict[str, Any]) -> ConfigDict:
    return ConfigDict(extra="forbid", frozen=True, json_schema_extra={"examples": [value]})


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HeldSegment(_Answer):
    """A segment that a user has."""

    segment: SegmentName
    since: Instant
    expires_at: Instant | None
    origin: Origin


class UserSegments(_Answer):
    """The segments that a user has now, by name."""

    model_config = _example({"user_id": _USER, "account": "active", "segments": [_MEMBERSHIP]})

    user_id: CanonicalId
    account: Account
    segments: list[HeldSegment]


class UserSegmentsAt(_Answer):
    """The segments that a user had at an instant, from the history."""

    model_config = _example({"user_id": _USER, "at": _AT, "segments": [_MEMBERSHIP]})

    user_id: CanonicalId
    at: Instant
    segments: list[HeldSegment]


class HistoryEntry(HistoryRow):
    """A change of a user's segments. `id` is its partition and offset in segments.history."""

    model_config = _example(_ROW)

    id: PositionText
    at: Instant
    expires_at: Instant | None


class Why(_Answer):
    """The changes behind a membership: what began it, and what set its end since."""

    began: HistoryEntry
    end_set: HistoryEntry | None


class Membership(HeldSegment):
    """One membership: since when, until when, and why. `why` is null while it is not known."""

    model_config = _example(
        {"user_id": _USER, **_MEMBERSHIP, "until": None, "why": {"began": _ROW, "end_set": None}}
    )

    user_id: CanonicalId
    until: Instant | None
    why: Why | None


class HistoryPage(_Answer):
    """Changes of a user, newest first."""

    model_config = _example({"items": [_ROW], "next": None})

    items: list[HistoryEntry]
    next: Next


class QueriedUser(_Answer):
    """What there is to say of one of many users; `error` for one that is not there."""

    user_id: CanonicalId
    account: Account | None
    segments: list[HeldSegment]
    error: Literal["user_unknown", "user_deleted"] | None


class QueriedUsers(_Answer):
    """The users of a query, in the order asked for."""

    model_config = _example(
        {
            "items": [
                {
                    "user_id": _USER,
                    "account": "active",
                    "segments": [_MEMBERSHIP],
                    "error": None,
                }
            ]
        }
    )

    items: list[QueriedUser]


class Rule(_Answer):
    """The rule of a segment and how far it is carried out.

    `target` is how many are to have the segment, null until that is counted; `assigned` how many
    have it by now, or had it when the assignment was over; `skipped` how many could not get it.
    """

    percent: float | None
    count: int | None
    include: list[SegmentName]
    exclude: list[SegmentName]
    accounts: list[AutoAccount]
    newcomers: bool
    threshold: str | None
    ttl: Annotated[str | None, Field(description="ISO 8601 duration")]
    target: Count | None
    assigned: Count | None
    skipped: Count


class Segment(_Answer):
    """A definition and how many memberships the view has of it."""

    model_config = _example(_SEGMENT)

    segment: SegmentName
    generation: Annotated[int, Field(ge=1)]
    version: Annotated[int, Field(ge=1)]
    state: Literal["active", "assigning", "deleted"]
    description: str | None
    created_at: Instant
    auto: Rule | None
    position: PositionText
    size: Count


class SegmentPage(_Answer):
    """Segments in use, by name."""

    model_config = _example({"items": [_SEGMENT], "next": "WyJuZXdzbGV0dGVyIl0"})

    items: list[Segment]
    next: Next


class Member(_Answer):
    """A user who has the segment."""

    user_id: CanonicalId
    since: Instant
    expires_at: Instant | None
    origin: Origin


class MemberPage(_Answer):
    """Members of a segment, by user id."""

    model_config = _example(
        {
            "items": [{"user_id": _USER, "since": _AT, "expires_at": None, "origin": "auto"}],
            "next": None,
        }
    )

    items: list[Member]
    next: Next


class Deleted(Result):
    """The result of a deletion. `referenced_by`: segments whose rules name the deleted one."""

    referenced_by: list[SegmentName]


class Pending(_Answer):
    """Kafka has the command; its result is to be asked for."""

    model_config = _example({"command_id": "order-4711", "status": "pending"})

    command_id: str
    status: Literal["pending"]


class Accepted(_Answer):
    """Kafka has all the commands; their ids, in order."""

    model_config = _example({"accepted": 1, "command_ids": ["order-4711"]})

    accepted: Annotated[int, Field(ge=1)]
    command_ids: list[str]


class ReportLink(_Answer):
    """Where a report is made when it is opened."""

    model_config = _example({"url": "http://127.0.0.1:8080/v1/reports/2026-11.csv?header=true"})

    url: Annotated[str, Field(json_schema_extra={"format": "uri"})]


class JobError(_Answer):
    """Why a job failed, or why it has to be tried again."""

    code: str
    detail: str


class ReportJob(_Answer):
    """A report on its way to a destination. `error` of a running job is that of its last try."""

    model_config = _example(_JOB)

    job_id: str
    state: Literal["queued", "running", "done", "failed"]
    destination: str
    month: str
    timezone: str | None
    segment: SegmentName | None
    user_id: CanonicalId | None
    operations: Literal["changes", "all"] | None
    header: bool
    created_at: Instant
    started_at: Instant | None
    finished_at: Instant | None
    attempts: Count
    complete_until: Annotated[
        Instant | None, Field(description="up to here it has every row; null until that is known")
    ]
    name: Annotated[str | None, Field(description="of the file")]
    rows_total: Count | None
    rows_written: Count
    bytes_written: Count
    url: Annotated[str | None, Field(description="where the report is, once it is done")]
    url_expires_at: Instant | None
    error: JobError | None


class ReportJobPage(_Answer):
    """Jobs, newest first."""

    model_config = _example({"items": [_JOB], "next": None})

    items: list[ReportJob]
    next: Next


class Alive(_Answer):
    """The process serves requests."""

    model_config = _example({"status": "alive"})

    status: Literal["alive"]


class Checks(_Answer):
    """`ok`, or what is amiss."""

    feed: str
    view: str
    history: str


class PartitionState(_Answer):
    """How far the view is in a shard."""

    position: PositionText
    staleness_ms: Count


class Readiness(_Answer):
    """Whether answers are complete and fresh enough; what is amiss; all with `verbose`."""

    model_config = _example({"status": "ready"})

    status: Literal["ready", "not_ready"]
    checks: Checks | None = None
    partitions: dict[str, PartitionState] | None = None


class UserState(_Answer):
    """The replica's state of a user."""

    model_config = _example({"user_id": _USER, "state": "active"})

    user_id: CanonicalId
    state: Account


class LineError(_Answer):
    """A line of an import that was refused."""

    line: Annotated[int, Field(ge=1)]
    field: str
    detail: str


class Imported(_Answer):
    """What became of the lines; `errors` names the first 100 refused ones."""

    model_config = _example(
        {
            "accepted": 1,
            "refused": 1,
            "errors": [{"line": 3, "field": "user_id", "detail": "a user id is a UUID"}],
        }
    )

    accepted: Count
    refused: Count
    errors: list[LineError]


class FieldError(_Answer):
    """A field that is wrong; `line` where the body has many."""

    field: str
    detail: str
    line: Annotated[str | int, Field(description="the number of the line, from 1")] | None = None


class ProblemDetails(BaseModel):
    """An error (RFC 9457). `code` is the machine's word for it; some have further members."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Annotated[str, Field(pattern=r"^urn:segments:problem:[a-z0-9_]+$")]
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    code: str
    errors: list[FieldError] | None = None
    command_id: str | None = None
    position: PositionText | None = None
    segments: list[str] | None = None
    complete_until: Instant | None = None
