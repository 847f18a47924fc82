"""What the service answers: frozen, typed, instants as aware datetimes.

A field that this version does not know is ignored, so that an older client understands a newer
service.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer

from segments.contracts.documents import Cause, MembershipOperation, Origin, ResultStatus
from segments.contracts.events import AccountState


def rfc3339(instant: datetime) -> str:
    """An instant as the service writes it: UTC, with milliseconds."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


class Model(BaseModel):
    """Part of an answer."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def document(self) -> dict[str, Any]:
        """As JSON knows it; instants are RFC 3339."""
        return self.model_dump(mode="json")


class ResponseModel(Model):
    """An answer, and how fresh it is.

    `position`: of the view that answered, or from which on a read sees a write; fit for the
    `min_position` of another read. `staleness_ms`: how old it may be. `complete_until`: the instant
    up to which history is complete. None where the service does not say.
    """

    position: str | None = None
    staleness_ms: int | None = None
    complete_until: Instant | None = None


class Membership(Model):
    """A segment that a user has. `expires_at` None: for good."""

    segment: str
    since: Instant
    expires_at: Instant | None
    origin: Origin


class UserSegments(ResponseModel):
    """The segments of a user, by name.

    `at` is the past instant that was asked for; `account` is not told of the past. `error` is
    `user_unknown` or `user_deleted` among the answers to a query of many.
    """

    user_id: str
    account: AccountState | None = None
    at: Instant | None = None
    segments: tuple[Membership, ...]
    error: str | None = None

    @property
    def names(self) -> list[str]:
        """The names alone."""
        return [held.segment for held in self.segments]

    def __contains__(self, segment: object) -> bool:
        return any(held.segment == segment for held in self.segments)


class HistoryRow(Model):
    """A change of a membership. `id` = partition:offset in segments.history."""

    id: str
    user_id: str
    segment: str
    generation: int
    operation: MembershipOperation
    at: Instant
    cause: Cause
    command_id: str | None
    actor: str | None
    expires_at: Instant | None


class Why(Model):
    """The rows behind a membership: what began it, and what changed its end last."""

    began: HistoryRow
    end_set: HistoryRow | None


class MembershipDetail(ResponseModel):
    """One membership; `why` is None while the history does not have its rows yet."""

    user_id: str
    segment: str
    since: Instant
    expires_at: Instant | None
    origin: Origin
    why: Why | None


class Change(Model):
    """What a command did to one membership."""

    segment: str
    operation: MembershipOperation


class ResultError(Model):
    """Why a command was refused. `code` is one of docs/topics.md."""

    code: str
    detail: str
    segments: tuple[str, ...] | None = None


class Preview(ResponseModel):
    """How many users a rule lets through, and how many of them it would choose."""

    eligible: int
    target: int


class Result(ResponseModel):
    """What became of a command. `position`: where in the log it was decided."""

    command_id: str
    status: ResultStatus
    error: ResultError | None
    changes: tuple[Change, ...]
    at: Instant
    referenced_by: tuple[str, ...] | None = None
    """Of a deletion: the segments whose rules name the deleted one; None where it is not told."""
    preview: Preview | None = None


class JobError(Model):
    """Why a job failed, or has to be tried again."""

    code: str
    detail: str


class ReportJob(Model):
    """A report on its way to a destination. `url`: where it is, once `state` is `done`."""

    job_id: str
    state: Literal["queued", "running", "done", "failed"]
    destination: str
    month: str
    created_at: Instant
    finished_at: Instant | None
    attempts: int
    complete_until: Instant | None
    name: str | None
    rows_total: int | None
    rows_written: int
    bytes_written: int
    url: str | None
    url_expires_at: Instant | None
    error: JobError | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed")


class AssignedRule(Model):
    """The rule of a segment, and how far it is. `ttl` is an ISO 8601 duration."""

    percent: float | None
    count: int | None
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    accounts: tuple[str, ...]
    newcomers: bool
    ttl: str | None
    target: int | None
    assigned: int | None
    skipped: int


class Segment(ResponseModel):
    """A segment. `position`: where in the log this version of it was decided."""

    segment: str
    generation: int
    version: int
    state: Literal["active", "assigning", "deleted"]
    description: str | None
    created_at: Instant
    auto: AssignedRule | None
    size: int


class Member(Model):
    """A user who has a segment."""

    user_id: str
    since: Instant
    expires_at: Instant | None
    origin: Origin


class Accepted(Model):
    """Commands that Kafka has; their results come one by one."""

    accepted: int
    command_ids: tuple[str, ...]


class UserState(ResponseModel):
    """The state of a user's account in the replica."""

    user_id: str
    state: AccountState


class RefusedLine(Model):
    """A line of an import that was not taken."""

    line: int
    field: str
    detail: str


class Imported(Model):
    """What became of the lines of an import; `errors` names the first of the refused ones."""

    accepted: int
    refused: int
    errors: tuple[RefusedLine, ...]


class PartitionHealth(Model):
    """What the view has of a partition."""

    position: str
    staleness_ms: int


class Health(Model):
    """Whether answers are complete and fresh; `checks` says what is amiss."""

    ready: bool
    checks: dict[str, str] = {}
    partitions: dict[int, PartitionHealth] = {}
