"""Plans the refreshes of a batch per user, as pure functions.

The offset of a refresh orders the states of a user; a retry keeps the offset of its first attempt.
Of several refreshes of a user the newest counts. A refresh with a state replaces every earlier
fetch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from segments.contracts.events import Refresh
from segments.contracts.log import encode
from segments.contracts.partitioning import partition_of
from segments.kafka.clients import RecordHeaders
from segments.settings import UserServiceSettings


class RefreshError(ValueError):
    """The record is not a valid refresh."""


class RefreshRecord(NamedTuple):
    """A record of users.refreshes, with all that the dead letter queue needs."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


class PendingRefresh(NamedTuple):
    """A consumed refresh and its record."""

    record: RefreshRecord
    refresh: Refresh

    @property
    def partition(self) -> int:
        return self.record.partition

    @property
    def order(self) -> int:
        """Order of the user's states; grows with the offsets of the partition."""
        origin = self.refresh.origin_offset
        offset = self.record.offset
        return offset if origin is None else min(origin, offset)


class UserRefresh(NamedTuple):
    """The work for a user of the batch: a supplied state, a fetch, or both in this order.

    `retry`: the fetch failed before while others succeeded; `first_failed_at_ms` is then set.
    """

    user_id: str
    supplied: PendingRefresh | None
    fetch: PendingRefresh | None
    retry: bool
    first_failed_at_ms: int | None
    not_before_ms: int


def parse(record: RefreshRecord, partitions: int) -> PendingRefresh:
    """Parse a record. RefreshError when it is malformed or in the wrong partition."""
    try:
        refresh = Refresh.model_validate(orjson.loads(record.value or b""))
    except ValidationError as error:
        fields = sorted({".".join(map(str, e["loc"])) or "record" for e in error.errors()})
        raise RefreshError(f"not a refresh: {', '.join(fields)}") from None
    except orjson.JSONDecodeError as error:
        raise RefreshError(f"not JSON: {error}") from None
    if partition_of(refresh.user_id, partitions) != record.partition:
        # Its offset would not order the user's states.
        raise RefreshError("wrong partition: the key must be the user id, partitioned by murmur2")
    return PendingRefresh(record, refresh)


def plan(refreshes: Iterable[PendingRefresh]) -> list[UserRefresh]:
    """One entry per user, in the order of first occurrence."""
    by_user: dict[str, list[PendingRefresh]] = {}
    for pending in refreshes:
        by_user.setdefault(pending.refresh.user_id, []).append(pending)
    return [_user_refresh(user_id, group) for user_id, group in by_user.items()]


def _user_refresh(user_id: str, group: list[PendingRefresh]) -> UserRefresh:
    states = [p for p in group if p.refresh.state is not None]
    supplied = max(states, key=_order, default=None)
    fetches = [
        p
        for p in group
        if p.refresh.state is None and (supplied is None or p.order > supplied.order)
    ]
    failures = [
        p.refresh.first_failed_at_ms for p in fetches if p.refresh.first_failed_at_ms is not None
    ]
    return UserRefresh(
        user_id=user_id,
        supplied=supplied,
        fetch=max(fetches, key=_order, default=None),
        # A new event is a reason to fetch at once.
        retry=bool(fetches) and len(failures) == len(fetches),
        first_failed_at_ms=min(failures, default=None),
        not_before_ms=max((p.refresh.not_before_ms or 0 for p in fetches), default=0),
    )


def _order(pending: PendingRefresh) -> int:
    return pending.order


def retry_value(
    user: UserRefresh,
    now_ms: int,
    settings: UserServiceSettings,
    *,
    tried: bool,
    retry_after_s: float | None = None,
) -> bytes:
    """Value of the refresh that retries this one from the end of the partition.

    `tried`: the fetch has just failed, so the delay doubles; otherwise it was not yet due.
    """
    assert user.fetch is not None
    first_failed_at_ms = user.first_failed_at_ms
    if first_failed_at_ms is None:
        first_failed_at_ms = now_ms
    not_before_ms = user.not_before_ms
    if tried:
        # As long as it has been failing so far: doubles the delay without counting attempts.
        wait_ms = min(
            max(now_ms - first_failed_at_ms, settings.backoff_ms), settings.backoff_max_ms
        )
        wait_ms = max(wait_ms, round(1000 * (retry_after_s or 0)))
        not_before_ms = now_ms + wait_ms
    return encode(
        {
            "user_id": user.user_id,
            "reason": "retry",
            "origin_offset": user.fetch.order,
            "first_failed_at_ms": first_failed_at_ms,
            "not_before_ms": not_before_ms,
        }
    )
