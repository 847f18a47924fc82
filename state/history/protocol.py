"""The history store as its writing and its reading side know it.

Another store (shared by several machines) takes the place of SQLite by implementing these two
protocols. Instants are integer milliseconds, user ids canonical lower-case UUIDs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple, Protocol

from segments.contracts.documents import Cause, MembershipOperation, Origin


class HistoryError(Exception):
    """The store cannot be used as it is; the message says what an operator can do."""


class HistoryUnavailableError(HistoryError):
    """There is no store yet, or it cannot be read now."""


class HistoryEntry(NamedTuple):
    """A row of history; its identity is (partition, offset) in segments.history."""

    partition: int
    offset: int
    at_ms: int
    user_id: str
    segment: str
    generation: int
    operation: MembershipOperation
    cause: Cause
    command_id: str | None
    actor: str | None
    expires_at_ms: int | None

    @property
    def cursor(self) -> Cursor:
        """Where a page of a user's rows goes on after this one."""
        return Cursor(self.at_ms, self.partition, self.offset)


class Cursor(NamedTuple):
    """A place in the order of rows: (at, partition, offset)."""

    at_ms: int
    partition: int
    offset: int


class Progress(NamedTuple):
    """How far a partition of segments.history is stored.

    `rows` counts the rows ever stored of it: at least `history_rows` of a progress marker means
    that the store is complete up to the marker's `at`. `log_time_ms` is the newest instant stored.
    """

    next_offset: int
    log_time_ms: int
    rows: int


class PastMembership(NamedTuple):
    """A membership as it was at an instant."""

    segment: str
    generation: int
    since_ms: int
    expires_at_ms: int | None
    origin: Origin


ReportRow = tuple[bytes, str, str, int]
"""(user id as 16 bytes, segment, operation, at in ms): what a report of millions of rows needs."""


class Report(Protocol):
    """The rows of a period, in (at, partition, offset) order, from one snapshot of the store."""

    @property
    def row_count(self) -> int:
        """Exactly as many rows as `batches` will give."""

    def batches(self) -> AsyncIterator[list[ReportRow]]:
        """The rows in batches of bounded size; can be asked for once."""


class HistoryWriter(Protocol):
    """Used by one process at a time for one partition; several processes may share a store."""

    def append(self, partition: int, entries: Sequence[HistoryEntry], next_offset: int) -> int:
        """Store entries of one partition and its progress, atomically and durably.

        Entries that are there already are left as they are. The number of new ones.
        """

    def progress(self) -> dict[int, Progress]:
        """Progress by partition."""

    def close(self) -> None:
        """Release the store."""


class HistoryReader(Protocol):
    """Reads beside running writers. HistoryUnavailableError when there is nothing to read from."""

    async def progress(self) -> dict[int, Progress]:
        """Progress by partition."""

    def report(
        self,
        from_ms: int,
        to_ms: int,
        *,
        segment: str | None = None,
        user_id: str | None = None,
        with_extends: bool = False,
    ) -> AbstractAsyncContextManager[Report]:
        """Rows with from_ms <= at < to_ms; without `extend` rows unless `with_extends`."""

    async def user_rows(
        self,
        user_id: str,
        *,
        from_ms: int | None = None,
        to_ms: int | None = None,
        segment: str | None = None,
        before: Cursor | None = None,
        limit: int = 100,
    ) -> list[HistoryEntry]:
        """At most `limit` rows of a user, of one segment or all, newest first, after `before`."""

    async def memberships_at(self, user_id: str, at_ms: int) -> list[PastMembership]:
        """What the user was a member of at an instant, sorted by segment."""

    async def close(self) -> None:
        """Release the store."""
