"""What HTTP answers with: the bodies of its JSON answers.

Handlers put their bodies together without these models, for speed. They describe the bodies in the
OpenAPI document, and the tests hold every answer against them.
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
    Next,
    PositionText,
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
    "description": "whoever wants news",
    "created_at": EXAMPLE_TIME,
    "auto": None,
    "position": "6:204",
    "size": 149,
}


class HeldSegment(ResponseBody):
    """A segment that a user has."""

    segment: SegmentName
    since: Instant
    expires_at: Instant | None
    origin: Origin


class UserSegments(ResponseBody):
    """The segments that a user has now, by name."""

    model_config = example(
        {"user_id": EXAMPLE_USER_ID, "account": "active", "segments": [_MEMBERSHIP]}
    )

    user_id: CanonicalId
    account: AccountState
    segments: list[HeldSegment]


class UserSegmentsAt(ResponseBody):
    """The segments that a user had at an instant, from the history."""

    model_config = example(
        {"user_id": EXAMPLE_USER_ID, "at": EXAMPLE_TIME, "segments": [_MEMBERSHIP]}
    )

    user_id: CanonicalId
    at: Instant
    segments: list[HeldSegment]


class HistoryEntry(HistoryRow):
    """A change of a user's segments. `id` is its partition and offset in segments.history."""

    model_config = example(_ROW)

    id: PositionText
    at: Instant
    expires_at: Instant | None


class Why(ResponseBody):
    """The changes behind a membership: what began it, and what set its end since."""

    began: HistoryEntry
    end_set: HistoryEntry | None


class Membership(HeldSegment):
    """One membership: since when, until when, and why. `why` is null while it is not known."""

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
    """Changes of a user, newest first."""

    model_config = example({"items": [_ROW], "next": None})

    items: list[HistoryEntry]
    next: Next


class QueriedUser(ResponseBody):
    """What there is to say of one of many users; `error` for one that is not there."""

    user_id: CanonicalId
    account: AccountState | None
    segments: list[HeldSegment]
    error: Literal["user_unknown", "user_deleted"] | None


class QueriedUsers(ResponseBody):
    """The users of a query, in the order asked for."""

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


class Segment(ResponseBody):
    """A definition and how many memberships the view has of it."""

    model_config = example(_SEGMENT)

    segment: SegmentName
    generation: Annotated[int, Field(ge=1)]
    version: Annotated[int, Field(ge=1)]
    state: Literal["active", "assigning", "deleted"]
    description: str | None
    created_at: Instant
    auto: Rule | None
    position: PositionText
    size: Count


class SegmentPage(ResponseBody):
    """Segments in use, by name."""

    model_config = example({"items": [_SEGMENT], "next": "WyJuZXdzbGV0dGVyIl0"})

    items: list[Segment]
    next: Next


class Member(ResponseBody):
    """A user who has the segment."""

    user_id: CanonicalId
    since: Instant
    expires_at: Instant | None
    origin: Origin


class MemberPage(ResponseBody):
    """Members of a segment, by user id."""

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
    """The result of a deletion. `referenced_by`: segments whose rules name the deleted one."""

    referenced_by: list[SegmentName]


class Pending(ResponseBody):
    """Kafka has the command; its result is to be asked for."""

    model_config = example({"command_id": "order-4711", "status": "pending"})

    command_id: str
    status: Literal["pending"]


class Accepted(ResponseBody):
    """Kafka has all the commands; their ids, in order."""

    model_config = example({"accepted": 1, "command_ids": ["order-4711"]})

    accepted: Annotated[int, Field(ge=1)]
    command_ids: list[str]
