"""What other services read: user documents, definitions, results, history rows."""

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
"""A user id as the service writes it. Like the others here, not checked when it is read."""
PositionText = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[0-9]+:[0-9]+$",
            "description": "partition:offset in the log of the shards",
        }
    ),
]
Threshold = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9a-f]{16}$"})]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Membership(_Document):
    """Instants in milliseconds. `generation` is that of the segment the membership counts for."""

    since: int
    expires_at: int | None
    origin: Origin
    generation: int


class UserDocument(_Document):
    """Value of segments.users. `position` = partition:offset of the log record that made it."""

    user_id: UserIdText
    account: AccountState
    segments: dict[str, Membership]
    position: PositionText
    at: int


class ProgressMarker(_Document):
    """Value of segments.users at key `!progress/<partition>`.

    Everything up to `log_offset`, whose time was `log_time` (ms), is applied. Every change with an
    instant up to `at` (ms) has been written, and `history_rows` is the number of rows that this
    shard has ever written to segments.history: a reader of history can prove that it has all.
    `defined` is the offset of the last record that gave a definition: whoever has read a definition
    of this partition with that position has all of them, and is not half fresh.
    """

    log_offset: int
    log_time: int
    at: int
    history_rows: int
    defined: int


class AutoDefinition(_Document):
    """The automatic part of a definition. `threshold`: 64 bits as 16 hexadecimal digits.

    `target` is how many have it once the running, or the last, round is over; `assigned` how many
    had it when that was over, None before; `skipped` how many could not be given it.
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

    `position` = partition:offset of the log record that made this version.
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
    """How many users a rule lets through, and how many of them it would choose."""

    eligible: int
    target: int


class Result(_Document):
    """Value of segments.results. `at` is RFC 3339; `position` = partition:offset in the log.

    `position` is null for a command that never reached the log.
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
