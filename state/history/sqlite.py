"""Opening the SQLite history store."""

from __future__ import annotations

from pathlib import Path

from segments.settings import Settings
from segments.state.history.protocol import HistoryReader, HistoryWriter


def database_path(settings: Settings) -> Path:
    """The SQLite file that the history processes and the sidecars of one machine share."""
    return settings.data_dir / "history" / "history.sqlite3"


def open_writer(settings: Settings, topic_id: str) -> HistoryWriter:
    """Open the store for writing. HistoryError when it belongs to another topic or version.

    `topic_id` is Kafka's UUID of segments.history.
    """
    from segments.state.history.writer import SqliteHistoryWriter  # noqa: PLC0415 - no cycle

    return SqliteHistoryWriter(database_path(settings), topic_id)


def open_reader(settings: Settings) -> HistoryReader:
    """The store for reading; the file is opened by the first query."""
    from segments.state.history.reader import SqliteHistoryReader  # noqa: PLC0415 - no cycle

    return SqliteHistoryReader(database_path(settings))
