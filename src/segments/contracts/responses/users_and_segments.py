"""Response bodies of users, segments and commands.

For speed, handlers build their bodies without these models, which describe them in the OpenAPI
document; the tests validate every response against them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from segments.contracts.auto import AutoAccount
from segments.contracts.documents import HistoryRow, Origin, Result
from segments.contracts.events import AccountState
from segments.contracts.names import SegmentName
from segments.contracts.responses.common import (
    EXAMPLE_TIME,
    EXAMPLE_USER_ID,
    CanonicalId,
    Count,
    Instant,
    LogPosition,
    Next,
    ResponseBody,
    example,
)

_MEMBERSHIP = {
    "segment": "newsletter",
    "since": EXAMPLE_TIME,
    "expires_at": None,
    "origin": "command",
}
_ROW = {
    "id": "0:84",
    "user_id": EXAMPLE_USER_ID,
    "segment": "newsletter",
    "generation": 1,
    "operation": "add",
    "at": EXAMPLE_TIME,
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
    "description": "subscribers of the newsletter",
    "created_at": EXAMPLE_TIME,
    "auto": None,
    "position": "6:204",
    "size": 149,
}


class HeldSegment(ResponseBody):
    """A segment of a user."""

    segment: SegmentName
    since: Instant
    expires_at: Instant | None
    origin: Origin


class UserSegments(ResponseBody):
    """Current segments of a user, sorted by name."""

    model_config = example(
        {"user_id": EXAMPLE_USER_ID, "account": "active", "segments": [_MEMBERSHIP]}
    )

    user_id: CanonicalId
    account: AccountState
    segments: list[HeldSegment]


class UserSegmentsAt(ResponseBody):
    """Segments of a user at a past time, from the history."""

    model_config = example(
        {"user_id": EXAMPLE_USER_ID, "at": EXAMPLE_TIME, "segments": [_MEMBERSHIP]}
    )

    user_id: CanonicalId
    at: Instant
    segments: list[HeldSegment]


class HistoryEntry(HistoryRow):
    """A change of a membership. `id`: partition:offset in segments.history."""

    model_config = example(_ROW)

    id: LogPosition
    at: Instant
    expires_at: Instant | None


class Why(ResponseBody):
    """The changes that began a membership and that last set its end."""

    began: HistoryEntry
    end_set: HistoryEntry | None


class Membership(HeldSegment):
    """A membership: start, end and cause. `why` is null until the history has it."""

    model_config = example(
        {
            "user_id": EXAMPLE_USER_ID,
            **_MEMBERSHIP,
            "until": None,
            "why": {"began": _ROW, "end_set": None},
        }
    )

    user_id: CanonicalId
    until: Instant | None
    why: Why | None


class HistoryPage(ResponseBody):
    """Membership changes of a user, newest first."""

    model_config = example({"items": [_ROW], "next": None})

    items: list[HistoryEntry]
    next: Next


class QueriedUser(ResponseBody):
    """One user of a query; `error` if the user is unknown or deleted."""

    user_id: CanonicalId
    account: AccountState | None
    segments: list[HeldSegment]
    error: Literal["user_unknown", "user_deleted"] | None


class QueriedUsers(ResponseBody):
    """Users of a query, in the order of the request."""

    model_config = example(
        {
            "items": [
                {
                    "user_id": EXAMPLE_USER_ID,
                    "account": "active",
                    "segments": [_MEMBERSHIP],
                    "error": None,
                }
            ]
        }
    )

    items: list[QueriedUser]


class Rule(ResponseBody):
    """Rule of a segment and the progress of its assignment.

    `target`: number of members to reach, null until counted. `assigned`: members so far, or at the
    end of the assignment. `skipped`: users it could not be assigned to.
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


class Segment(ResponseBody):
    """Definition of a segment, and its number of members in the view."""

    model_config = example(_SEGMENT)

    segment: SegmentName
    generation: Annotated[int, Field(ge=1)]
    version: Annotated[int, Field(ge=1)]
    state: Literal["active", "assigning", "deleted"]
    description: str | None
    created_at: Instant
    auto: Rule | None
    position: LogPosition
    size: Count


class SegmentPage(ResponseBody):
    """Segments that are not deleted, sorted by name."""

    model_config = example({"items": [_SEGMENT], "next": "WyJuZXdzbGV0dGVyIl0"})

    items: list[Segment]
    next: Next


class Member(ResponseBody):
    """A member of the segment."""

    user_id: CanonicalId
    since: Instant
    expires_at: Instant | None
    origin: Origin


class MemberPage(ResponseBody):
    """Members of a segment, sorted by user id."""

    model_config = example(
        {
            "items": [
                {
                    "user_id": EXAMPLE_USER_ID,
                    "since": EXAMPLE_TIME,
                    "expires_at": None,
                    "origin": "auto",
                }
            ],
            "next": None,
        }
    )

    items: list[Member]
    next: Next


class Deleted(Result):
    """Result of a deletion. `referenced_by`: segments whose rules refer to the deleted one."""

    referenced_by: list[SegmentName]


class Pending(ResponseBody):
    """The command is in Kafka and not yet decided."""

    model_config = example({"command_id": "order-4711", "status": "pending"})

    command_id: str
    status: Literal["pending"]


class Accepted(ResponseBody):
    """All commands are in Kafka; their ids, in order."""

    model_config = example({"accepted": 1, "command_ids": ["order-4711"]})

    accepted: Annotated[int, Field(ge=1)]
    command_ids: list[str]
