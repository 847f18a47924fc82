"""Decisions about one user's memberships: pure functions of document, record and log time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from segments.contracts.documents import MembershipOperation
from segments.contracts.times import MAX_TTL_MS
from segments.state.machine.documents import MembershipState, StoredUser

Generations = Mapping[str, int]
"""Generation of every active segment, by name."""


class Rejection(NamedTuple):
    """Why a command was rejected; `segments` lists all segments at fault."""

    code: str
    detail: str
    segments: list[str] | None = None

    def as_error(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "detail": self.detail}
        if self.segments is not None:
            error["segments"] = self.segments
        return error


class Step(NamedTuple):
    """Change of one membership; `before` is None when it is new, `after` when it is removed."""

    segment: str
    operation: MembershipOperation
    before: MembershipState | None
    after: MembershipState | None


class Ending(NamedTuple):
    """End of a membership at `at` (log time in ms)."""

    at: int
    segment: str
    cause: str


def plan_change(
    user: StoredUser,
    change: dict[str, Any],
    usable: Generations,
    *,
    requested_at: int,
    now: int,
    max_segments: int,
) -> Rejection | list[Step]:
    """Plan the steps of a `change` record, all or nothing; an empty list when nothing changes.

    The document must be settled: every membership that ended up to `now` is removed already.
    `requested_at`: log time of the command, from which a ttl counts. `now`: log time at which it is
    decided, later for a deferred command.
    """
    if user["account"] == "deleted":
        return Rejection("user_deleted", "the user is deleted")
    additions, removals = change["add"], change["remove"]
    names = [addition[0] for addition in additions] + removals
    if unusable := [name for name in names if name not in usable]:
        return Rejection("segment_unknown", "no such segment", unusable)
    held = user["segments"]
    steps: list[Step] = []
    expired: list[str] = []
    too_long: list[str] = []
    for segment, ttl_ms, expires_at in additions:
        end = expires_at if ttl_ms is None else requested_at + ttl_ms
        if end is not None and end <= now:
            expired.append(segment)
        elif end is not None and end > now + MAX_TTL_MS:
            too_long.append(segment)
        else:
            steps.extend(_addition(held.get(segment), segment, end, usable[segment], now))
    if too_long:
        return Rejection("invalid", "a membership lasts at most 100 years", too_long)
    if expired:
        return Rejection("already_expired", "the end is in the past", expired)
    steps.extend(Step(name, "remove", held[name], None) for name in removals if name in held)
    return _within_limit(len(held), steps, max_segments)


def _addition(
    before: MembershipState | None, segment: str, end: int | None, generation: int, now: int
) -> list[Step]:
    if before is None:
        after = MembershipState(since=now, expires_at=end, origin="command", generation=generation)
        return [Step(segment, "add", None, after)]
    if before["expires_at"] == end:
        return []
    after = MembershipState(
        since=before["since"], expires_at=end, origin=before["origin"], generation=generation
    )
    return [Step(segment, "extend", before, after)]


def _within_limit(held: int, steps: list[Step], max_segments: int) -> Rejection | list[Step]:
    added = [step.segment for step in steps if step.operation == "add"]
    removed = sum(step.operation == "remove" for step in steps)
    if added and held + len(added) - removed > max_segments:
        return Rejection("too_many_segments", f"a user has at most {max_segments} segments", added)
    return steps


def endings(
    user: StoredUser, now: int, deleted_at: Callable[[str, int], int | None]
) -> list[Ending]:
    """Memberships that ended up to `now`, oldest first, ties by segment name.

    `deleted_at(segment, generation)`: log time (ms) of that generation's deletion, or None.
    """
    found: list[Ending] = []
    for segment, membership in user["segments"].items():
        expires_at = membership["expires_at"]
        deletion = deleted_at(segment, membership["generation"])
        if expires_at is not None and expires_at <= (now if deletion is None else deletion):
            found.append(Ending(expires_at, segment, "expired"))
        elif deletion is not None:
            found.append(Ending(deletion, segment, "segment_deleted"))
    found.sort()
    return found


def due_ms(user: StoredUser) -> int | None:
    """Earliest expiry of a membership or deadline of a deferred command (ms), or None."""
    due_times = [
        membership["expires_at"]
        for membership in user["segments"].values()
        if membership["expires_at"] is not None
    ]
    if user["parked"]:
        due_times.append(user["parked"][0]["deadline"])
    return min(due_times) if due_times else None


def is_stale(user: StoredUser, version: int | None, refresh: list[Any]) -> bool:
    """Whether a fetched account state is older than the stored one.

    `refresh`: [topic id, partition, offset] of the event that caused the fetch. It orders the
    states fetched for one topic partition; a recreated topic starts a new order. A lower version is
    older as well. A user that was not found has no version, which resets the comparison: if the
    user is created again, its versions may start from one.
    """
    stored = user["refresh"]
    if stored is not None and stored[:2] == refresh[:2] and refresh[2] < stored[2]:
        return True
    stored_version = user["version"]
    return version is not None and stored_version is not None and version < stored_version
