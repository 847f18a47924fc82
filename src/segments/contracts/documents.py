"""Records for other services: user documents, definitions, results, history rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, WithJsonSchema

from segments.contracts.events import AccountState
from segments.contracts.times import InstantText

MembershipOperation = Literal["add", "remove", "extend"]
Cause = Literal["command", "auto", "expired", "segment_deleted", "user_deleted"]
Origin = Literal["command", "auto"]
ResultStatus = Literal["applied", "unchanged", "rejected"]
ErrorCode = Literal[
    "invalid",
    "segment_exists",
    "segment_unknown",
    "user_unknown",
    "user_deleted",
    "already_expired",
    "percent_shrinks",
    "too_many_segments",
    "assigning",
]


UserIdText = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "format": "uuid",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        }
    ),
]
"""A user id in canonical form. Like the other types here, not validated on reading."""
PositionText = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[0-9]+:[0-9]+$",
            "description": "partition:offset in the shard log",
        }
    ),
]
Threshold = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{16}$"})]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Membership(_Document):
    """A membership; times in milliseconds. `generation`: the segment's, when it was added."""

    since: int
    expires_at: int | None
    origin: Origin
    generation: int


class UserDocument(_Document):
    """Value of segments.users. `position` = partition:offset of the log record that produced it."""

    user_id: UserIdText
    account: AccountState
    segments: dict[str, Membership]
    position: PositionText
    at: int


class ProgressMarker(_Document):
    """Value of segments.users at key `!progress/<partition>`.

    The shard has applied all records up to `log_offset`, whose timestamp was `log_time` (ms), and
    has written every change with a timestamp up to `at` (ms). `history_rows` is the number of rows
    it has ever written to segments.history, by which a reader proves that it has all of them.
    `defined` is the offset of the last record that produced a definition: a reader that has a
    definition of this partition with that position has all of them.
    """

    log_offset: int
    log_time: int
    at: int
    history_rows: int
    defined: int


class AutoDefinition(_Document):
    """The automatic part of a definition. `threshold`: 64 bits as 16 hexadecimal digits.

    `target`: number of members to reach in the current or last round. `assigned`: number of members
    at the end of that round, None before. `skipped`: number of users it could not be assigned to.
    """

    percent: float | None
    count: int | None
    include: list[str]
    exclude: list[str]
    accounts: list[str]
    ttl_ms: int | None
    newcomers: bool
    threshold: Threshold | None
    target: int | None
    assigned: int | None
    skipped: int


class Definition(_Document):
    """Value of segments.definitions. `created_at` in milliseconds.

    `position` = partition:offset of the log record that produced this version.
    """

    segment: str
    generation: int
    version: int
    state: Literal["active", "assigning", "deleted"]
    description: str | None
    created_at: int
    auto: AutoDefinition | None = None
    position: PositionText


class ResultError(_Document):
    code: ErrorCode
    detail: str
    segments: list[str] | None = None


class Change(_Document):
    segment: str
    operation: MembershipOperation


class Preview(_Document):
    """Number of users eligible under a rule, and how many of them it would select."""

    eligible: int
    target: int


class Result(_Document):
    """Value of segments.results. `at` is RFC 3339; `position` = partition:offset in the log.

    `position` is null for a command that did not reach the log.
    """

    command_id: str
    status: ResultStatus
    error: ResultError | None
    changes: list[Change]
    position: PositionText | None
    at: InstantText


class PreviewResult(Result):
    """The result of a preview that was not rejected."""

    preview: Preview


class HistoryRow(_Document):
    """Value of segments.history; its identity is (partition, offset). Instants are RFC 3339."""

    user_id: UserIdText
    segment: str
    generation: int
    operation: MembershipOperation
    at: InstantText
    cause: Cause
    command_id: str | None
    actor: str | None
    expires_at: InstantText | None
