"""The writing side of the SQLite history store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from segments.state.history.protocol import StoredRow, StoreProgress
from segments.state.history.schema import (
    HISTORY_COLUMNS,
    HISTORY_PLACEHOLDERS,
    bind_topic,
    open_for_writing,
    to_columns,
)

# Not INSERT OR IGNORE: that would also ignore violations of other constraints.
_INSERT = f"""
INSERT INTO history ({HISTORY_COLUMNS}) VALUES ({HISTORY_PLACEHOLDERS})
ON CONFLICT (partition, offset) DO NOTHING
"""  # noqa: S608 - constants
_ADVANCE = """
INSERT INTO progress (partition, next_offset, log_time, rows) VALUES (?, ?, ?, ?)
ON CONFLICT (partition) DO UPDATE SET
    next_offset = max(next_offset, excluded.next_offset),
    log_time = max(log_time, excluded.log_time),
    rows = rows + excluded.rows
"""


class SqliteHistoryWriter:
    """See HistoryWriter. Threads take turns; processes wait for each other's transactions."""

    def __init__(self, path: Path, topic_id: str) -> None:
        self._lock = threading.Lock()
        self._connection = open_for_writing(path)
        try:
            bind_topic(self._connection, path, topic_id)
        except BaseException:
            self._connection.close()
            raise

    def append(self, partition: int, entries: Sequence[StoredRow], next_offset: int) -> int:
        """Store entries of a partition and its progress; returns the number of new entries."""
        values = [to_columns(entry) for entry in entries]
        log_time_ms = max((entry.at_ms for entry in entries), default=0)
        with self._lock:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                before = connection.total_changes
                connection.executemany(_INSERT, values)
                added = connection.total_changes - before
                connection.execute(_ADVANCE, (partition, next_offset, log_time_ms, added))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
        return added

    def progress(self) -> dict[int, StoreProgress]:
        """Progress by partition."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT partition, next_offset, log_time, rows FROM progress"
            ).fetchall()
        return {partition: StoreProgress(*counts) for partition, *counts in rows}

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._connection.close()
