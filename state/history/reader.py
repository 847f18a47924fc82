"""The reading side of the SQLite history store: aiosqlite, read-only, beside running writers."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiosqlite

from segments.contracts.user_ids import pack
from segments.state.history.protocol import (
    Cursor,
    HistoryUnavailableError,
    PastMembership,
    ReportRow,
    StoredRow,
    StoreProgress,
)
from segments.state.history.schema import (
    BUSY_TIMEOUT_MS,
    HISTORY_COLUMNS,
    HISTORY_SCHEMA_VERSION,
    from_columns,
)

BATCH_ROWS = 10_000


class SqliteReportSnapshot:
    """See ReportSnapshot."""

    def __init__(self, row_count: int, cursor: aiosqlite.Cursor) -> None:
        self.row_count = row_count
        self._cursor = cursor

    async def batches(self) -> AsyncIterator[list[ReportRow]]:
        """The rows in batches of at most BATCH_ROWS."""
        while batch := await self._cursor.fetchmany(BATCH_ROWS):
            yield batch  # type: ignore[misc]

    async def close(self) -> None:
        """Release the snapshot: an open cursor keeps it even after the connection is closed."""
        await self._cursor.close()


class SqliteHistoryReader:
    """See HistoryReader. Short queries share a connection; each report has its own snapshot."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: aiosqlite.Connection | None = None
        self._opening = asyncio.Lock()

    async def progress(self) -> dict[int, StoreProgress]:
        """Progress by partition."""
        rows = await self._rows("SELECT partition, next_offset, log_time, rows FROM progress", ())
        return {partition: StoreProgress(*counts) for partition, *counts in rows}

    @asynccontextmanager
    async def report(
        self,
        from_ms: int,
        to_ms: int,
        *,
        segment: str | None = None,
        user_id: str | None = None,
        with_extends: bool = False,
    ) -> AsyncIterator[SqliteReportSnapshot]:
        """Rows with from_ms <= at < to_ms, counted and read in one read transaction."""
        condition, values = _period(from_ms, to_ms)
        if segment is not None:
            condition += " AND segment = ?"
            values.append(segment)
        if user_id is not None:
            condition += " AND user_id = ?"
            values.append(pack(user_id))
        if not with_extends:
            condition += " AND operation <> 'extend'"
        # The rows of one user are few: by_user. Everything else scans the period: by_instant.
        index = "by_instant" if user_id is None else "by_user"
        source = f"FROM history INDEXED BY {index} WHERE {condition}"
        connection = await _connect(self._path)
        try:
            try:
                report = await _snapshot(connection, source, values)
            except sqlite3.Error as error:
                raise HistoryUnavailableError(f"{self._path}: {error}") from error
            try:
                yield report
            finally:
                await report.close()
        finally:
            await connection.close()

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
        condition, values = _period(from_ms, to_ms)
        if segment is not None:
            condition += " AND segment = ?"
            values.append(segment)
        if before is not None:
            condition += " AND (at, partition, offset) < (?, ?, ?)"
            values.extend(before)
        rows = await self._rows(
            f"SELECT {HISTORY_COLUMNS} FROM history WHERE user_id = ? AND {condition} "  # noqa: S608
            "ORDER BY at DESC, partition DESC, offset DESC LIMIT ?",
            (pack(user_id), *values, limit),
        )
        return [from_columns(row) for row in rows]

    async def memberships_at(self, user_id: str, at_ms: int) -> list[PastMembership]:
        """The memberships of a user at an instant, sorted by segment."""
        rows = await self._rows(
            f"SELECT {HISTORY_COLUMNS} FROM history WHERE user_id = ? AND at <= ? "  # noqa: S608
            "ORDER BY at, partition, offset",
            (pack(user_id), at_ms),
        )
        return fold([from_columns(row) for row in rows], at_ms)

    async def close(self) -> None:
        """Release the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _rows(self, statement: str, values: tuple[Any, ...]) -> list[Any]:
        async with self._opening:
            if self._connection is None:
                self._connection = await _connect(self._path)
            connection = self._connection
        try:
            return list(await connection.execute_fetchall(statement, values))
        except sqlite3.Error as error:
            raise HistoryUnavailableError(f"{self._path}: {error}") from error


def fold(entries: list[StoredRow], at_ms: int) -> list[PastMembership]:
    """The memberships at an instant that result from a user's rows, oldest first.

    A membership that has expired by then is left out, even before its row is written.
    """
    held: dict[str, PastMembership] = {}
    for entry in entries:
        if entry.operation == "remove":
            held.pop(entry.segment, None)
        elif entry.operation == "extend" and entry.segment in held:
            held[entry.segment] = held[entry.segment]._replace(expires_at_ms=entry.expires_at_ms)
        else:
            held[entry.segment] = PastMembership(
                segment=entry.segment,
                generation=entry.generation,
                since_ms=entry.at_ms,
                expires_at_ms=entry.expires_at_ms,
                origin="auto" if entry.cause == "auto" else "command",
            )
    return [
        membership
        for _, membership in sorted(held.items())
        if membership.expires_at_ms is None or membership.expires_at_ms > at_ms
    ]


async def _snapshot(
    connection: aiosqlite.Connection, source: str, values: list[Any]
) -> SqliteReportSnapshot:
    await connection.execute("BEGIN")
    count = await (await connection.execute(f"SELECT count(*) {source}", values)).fetchone()
    assert count is not None
    cursor = await connection.execute(
        f"SELECT user_id, segment, operation, at {source} ORDER BY at, partition, offset",
        values,
    )
    return SqliteReportSnapshot(count[0], cursor)


def _period(from_ms: int | None, to_ms: int | None) -> tuple[str, list[Any]]:
    conditions, values = [], []
    if from_ms is not None:
        conditions.append("at >= ?")
        values.append(from_ms)
    if to_ms is not None:
        conditions.append("at < ?")
        values.append(to_ms)
    return " AND ".join(conditions) or "TRUE", values


async def _connect(path: Path) -> aiosqlite.Connection:
    # Checked first: SQLite reports a missing file and a missing folder with the same vague error.
    if not await asyncio.to_thread(path.is_file):
        raise HistoryUnavailableError(f"there is no history store at {path} yet")
    connection = None
    try:
        connection = await aiosqlite.connect(
            f"{path.as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_TIMEOUT_MS / 1000,
            isolation_level=None,
        )
        await _check_version(connection, path)
    except BaseException as error:
        if connection is not None:
            await connection.close()
        if isinstance(error, sqlite3.Error):
            raise HistoryUnavailableError(f"{path}: {error}") from error
        raise
    return connection


async def _check_version(connection: aiosqlite.Connection, path: Path) -> None:
    row = await (await connection.execute("PRAGMA user_version")).fetchone()
    if row is None or row[0] != HISTORY_SCHEMA_VERSION:
        # The version is 0 while the first writer creates the tables.
        raise HistoryUnavailableError(
            f"{path} does not have schema version {HISTORY_SCHEMA_VERSION}"
        )
