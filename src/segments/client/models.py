"""Response models: frozen and typed, with times as aware datetimes.

Unknown fields are ignored, so that an older client works with a newer service.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer

from segments.contracts.documents import Cause, MembershipOperation, Origin, ResultStatus
from segments.contracts.events import AccountState


def rfc3339(instant: datetime) -> str:
    """Format a time like the service: UTC, with milliseconds."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Instant = Annotated[datetime, PlainSerializer(rfc3339, return_type=str, when_used="json")]


class Model(BaseModel):
    """Base of all models."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    def document(self) -> dict[str, Any]:
        """As a JSON object; times are RFC 3339."""
        return self.model_dump(mode="json")


class ResponseModel(Model):
    """A response with its freshness.

    `position`: of the view that served a read, or from which a read sees a write; usable as
    `min_position` of another read. `staleness_ms`: upper bound of the view's age.
    `complete_until`: the time up to which the history is complete. None if not reported.
    """

    position: str | None = None
    staleness_ms: int | None = None
    complete_until: Instant | None = None


class Membership(Model):
    """A segment of a user. `expires_at` None: it does not expire."""

    segment: str
    since: Instant
    expires_at: Instant | None
    origin: Origin


class UserSegments(ResponseModel):
    """The segments of a user, by name.

    `at`: the requested past time, for which `account` is None. `error`: `user_unknown` or
    `user_deleted` in a query of many users.
    """

    user_id: str
    account: AccountState | None = None
    at: Instant | None = None
    segments: tuple[Membership, ...]
    error: str | None = None

    @property
    def names(self) -> list[str]:
        """The names of the segments."""
        return [each.segment for each in self.segments]

    def __contains__(self, segment: object) -> bool:
        return any(each.segment == segment for each in self.segments)


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
    """The history rows that began a membership and that last changed its end."""

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
    """A membership changed by a command."""

    segment: str
    operation: MembershipOperation


class ResultError(Model):
    """Why a command was rejected. docs/topics.md lists the codes."""

    code: str
    detail: str
    segments: tuple[str, ...] | None = None


class Preview(ResponseModel):
    """Number of users eligible under a rule, and how many of them it would select."""

    eligible: int
    target: int


class Result(ResponseModel):
    """Result of a command. `position`: where in the log it was decided."""

    command_id: str
    status: ResultStatus
    error: ResultError | None
    changes: tuple[Change, ...]
    at: Instant
    referenced_by: tuple[str, ...] | None = None
    """Of a deletion: segments whose rules refer to the deleted one; None if not reported."""
    preview: Preview | None = None


class JobError(Model):
    """Why a job failed, or will be retried."""

    code: str
    detail: str


class ReportJob(Model):
    """A job that stores a report at a destination. `url`: of the report, once `state` is `done`."""

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
        """Whether the job is done or failed."""
        return self.state in ("done", "failed")


class AssignedRule(Model):
    """The rule of a segment and its progress. `ttl` is an ISO 8601 duration."""

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
    """A member of a segment."""

    user_id: str
    since: Instant
    expires_at: Instant | None
    origin: Origin


class Accepted(Model):
    """Commands written to Kafka; each has its own result."""

    accepted: int
    command_ids: tuple[str, ...]


class UserState(ResponseModel):
    """The state of a user's account in the replica."""

    user_id: str
    state: AccountState


class RefusedLine(Model):
    """A rejected line of an import."""

    line: int
    field: str
    detail: str


class Imported(Model):
    """Outcome of an import; `errors` lists the first rejected lines."""

    accepted: int
    refused: int
    errors: tuple[RefusedLine, ...]


class PartitionHealth(Model):
    """Position and staleness of the view for one partition."""

    position: str
    staleness_ms: int


class Health(Model):
    """Readiness of a sidecar; `checks` has the reasons if it is not ready."""

    ready: bool
    checks: dict[str, str] = {}
    partitions: dict[int, PartitionHealth] = {}
