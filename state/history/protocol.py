"""The interfaces of the history store: writer, reader and their data types.

Another store, such as one shared by several machines, can replace SQLite by implementing
HistoryWriter and HistoryReader. Instants are integer milliseconds, user ids canonical lower-case
UUIDs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, Protocol

from segments.contracts.documents import Cause, HistoryRow, MembershipOperation, Origin
from segments.contracts.names import canonical_user_id
from segments.contracts.times import from_rfc3339, to_rfc3339


class HistoryError(Exception):
    """The store cannot be used; the message states what an operator must do."""


class HistoryUnavailableError(HistoryError):
    """The store does not exist yet, or is temporarily unreadable."""


class StoredRow(NamedTuple):
    """A stored history row, identified by (partition, offset) in segments.history."""

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

    @classmethod
    def from_row(cls, partition: int, offset: int, row: HistoryRow) -> StoredRow:
        """The entry of a record of segments.history. ValueError for an invalid user id or instant.

        A field `x_ms` of the entry is the instant `x` of the row.
        """
        fields: dict[str, Any] = {name: getattr(row, name) for name in _PLAIN_FIELDS}
        for name in _INSTANT_FIELDS:
            text = getattr(row, name)
            fields[f"{name}_ms"] = None if text is None else from_rfc3339(text)
        fields["user_id"] = canonical_user_id(row.user_id)
        return cls(partition=partition, offset=offset, **fields)

    def to_row(self) -> dict[str, Any]:
        """The fields of a HistoryRow, as JSON has them."""
        row: dict[str, Any] = {}
        for name in HistoryRow.model_fields:
            if name in _INSTANT_FIELDS:
                at_ms = getattr(self, f"{name}_ms")
                row[name] = None if at_ms is None else to_rfc3339(at_ms)
            else:
                row[name] = getattr(self, name)
        return row

    @property
    def cursor(self) -> Cursor:
        """The cursor of the page that follows this row."""
        return Cursor(self.at_ms, self.partition, self.offset)


_INSTANT_FIELDS = tuple(
    name for name in HistoryRow.model_fields if f"{name}_ms" in StoredRow._fields
)
_PLAIN_FIELDS = tuple(name for name in HistoryRow.model_fields if name not in _INSTANT_FIELDS)


class Cursor(NamedTuple):
    """A position in the order of rows: (at, partition, offset)."""

    at_ms: int
    partition: int
    offset: int


class StoreProgress(NamedTuple):
    """How much of a partition of segments.history is stored.

    `rows` counts all rows ever stored: the store is complete up to the `at` of a progress marker
    if it has at least the marker's `history_rows`. `log_time_ms` is the newest stored instant.
    """

    next_offset: int
    log_time_ms: int
    rows: int


class PastMembership(NamedTuple):
    """A membership at a past instant."""

    segment: str
    generation: int
    since_ms: int
    expires_at_ms: int | None
    origin: Origin


ReportRow = tuple[bytes, str, str, int]
"""(user id as 16 bytes, segment, operation, at in ms): plain tuples, for millions of rows."""


class ReportSnapshot(Protocol):
    """The rows of a period, in (at, partition, offset) order, from one snapshot of the store."""

    @property
    def row_count(self) -> int:
        """The exact number of rows in `batches`."""

    def batches(self) -> AsyncIterator[list[ReportRow]]:
        """The rows in batches of bounded size. Can be iterated once."""


class HistoryWriter(Protocol):
    """A partition is written by one process at a time; several processes may share a store."""

    def append(self, partition: int, entries: Sequence[StoredRow], next_offset: int) -> int:
        """Store entries of one partition and its progress, atomically and durably.

        Existing entries are not changed. Returns the number of new entries.
        """

    def progress(self) -> dict[int, StoreProgress]:
        """Progress by partition."""

    def close(self) -> None:
        """Release the store."""


class HistoryReader(Protocol):
    """Reads concurrently with writers. HistoryUnavailableError when the store is unreadable."""

    async def progress(self) -> dict[int, StoreProgress]:
        """Progress by partition."""

    def report(
        self,
        from_ms: int,
        to_ms: int,
        *,
        segment: str | None = None,
        user_id: str | None = None,
        with_extends: bool = False,
    ) -> AbstractAsyncContextManager[ReportSnapshot]:
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
    ) -> list[StoredRow]:
        """At most `limit` rows of a user, of one segment or all, newest first, after `before`."""

    async def memberships_at(self, user_id: str, at_ms: int) -> list[PastMembership]:
        """The memberships of a user at an instant, sorted by segment."""

    async def close(self) -> None:
        """Release the store."""
