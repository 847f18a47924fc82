"""The writing side of the SQLite history store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

from segments.contracts.user_ids import pack
from segments.state.history.protocol import HistoryEntry, Progress
from segments.state.history.schema import bind_topic, open_for_writing

# Not INSERT OR IGNORE: that would also pass over a row that breaks another constraint.
_INSERT = """
INSERT INTO history (partition, offset, at, user_id, segment, generation, operation, cause,
                     command_id, actor, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (partition, offset) DO NOTHING
"""
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

    def append(self, partition: int, entries: Sequence[HistoryEntry], next_offset: int) -> int:
        """Store entries of one partition and its progress; the number of new entries."""
        values = [_columns(entry) for entry in entries]
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

    def progress(self) -> dict[int, Progress]:
        """Progress by partition."""
        with self._lock:
            rows = self._connection.execute(
                "SELECT partition, next_offset, log_time, rows FROM progress"
            ).fetchall()
        return {partition: Progress(*counts) for partition, *counts in rows}

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._connection.close()


def _columns(entry: HistoryEntry) -> tuple[object, ...]:
    return (*entry[:3], pack(entry.user_id), *entry[4:])
