"""The SQLite tables of the history store."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from segments.contracts.user_ids import pack, unpack
from segments.state.history.protocol import HistoryError, StoredRow

HISTORY_SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 30_000
# The write-ahead log is truncated to this size after a long read delayed its checkpoint.
_JOURNAL_LIMIT_BYTES = 64 * 1024 * 1024

# The columns of the table history, in the order of the fields of StoredRow.
_HISTORY_COLUMNS = {
    "partition": "INTEGER NOT NULL",
    "offset": "INTEGER NOT NULL",
    "at": "INTEGER NOT NULL",
    "user_id": "BLOB NOT NULL",
    "segment": "TEXT NOT NULL",
    "generation": "INTEGER NOT NULL",
    "operation": "TEXT NOT NULL",
    "cause": "TEXT NOT NULL",
    "command_id": "TEXT",
    "actor": "TEXT",
    "expires_at": "INTEGER",
}
HISTORY_COLUMNS = ", ".join(_HISTORY_COLUMNS)
"""The names of the columns, for INSERT and SELECT."""
_USER_ID = StoredRow._fields.index("user_id")
HISTORY_PLACEHOLDERS = ", ".join("?" for _ in _HISTORY_COLUMNS)

# by_instant is a covering index for reports: a month is one index scan, without a table lookup for
# each row.
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID, STRICT;
CREATE TABLE history (
    {history_columns},
    PRIMARY KEY (partition, offset)
) WITHOUT ROWID, STRICT;
CREATE INDEX by_instant ON history (at, partition, offset, operation, segment, user_id);
CREATE INDEX by_user ON history (user_id, at, partition, offset);
CREATE TABLE progress (
    partition INTEGER PRIMARY KEY,
    next_offset INTEGER NOT NULL,
    log_time INTEGER NOT NULL,
    rows INTEGER NOT NULL
) STRICT;
"""


def to_columns(entry: StoredRow) -> tuple[Any, ...]:
    """The values of an entry in the order of the columns."""
    return entry._replace(user_id=pack(entry.user_id))  # type: ignore[arg-type]


def from_columns(row: Any) -> StoredRow:
    """The entry of a row with all columns."""
    entry = StoredRow._make(row)
    return entry._replace(user_id=unpack(row[_USER_ID]))


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open the database, creating it if absent. HistoryError for another schema version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(
        path,
        timeout=BUSY_TIMEOUT_MS / 1000,
        isolation_level=None,
        # A rebalance flushes in another thread; the sink allows one at a time.
        check_same_thread=False,
    )
    try:
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA journal_size_limit = {_JOURNAL_LIMIT_BYTES}")
        _create_tables(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _create_tables(connection: sqlite3.Connection, path: Path) -> None:
    # Under the write lock: of several processes that start at once, one creates the tables.
    connection.execute("BEGIN IMMEDIATE")
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            columns = ", ".join(f"{name} {sql_type}" for name, sql_type in _HISTORY_COLUMNS.items())
            for statement in _TABLES.format(history_columns=columns).split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {HISTORY_SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    if version not in (0, HISTORY_SCHEMA_VERSION):
        raise HistoryError(
            f"{path} has schema version {version}, this version of the program requires "
            f"{HISTORY_SCHEMA_VERSION}: run the version that wrote the file, or move the file away "
            "and reset the offsets of the history application to rebuild it"
        )


def bind_topic(connection: sqlite3.Connection, path: Path, topic_id: str) -> None:
    """Bind the store to a topic id. HistoryError when it is bound to another.

    The offsets of a topic that is deleted and created again start at 0: its rows would be mistaken
    for redelivered ones and silently ignored.
    """
    connection.execute(
        "INSERT INTO meta VALUES ('topic_id', ?) ON CONFLICT (name) DO NOTHING", (topic_id,)
    )
    row = connection.execute("SELECT value FROM meta WHERE name = 'topic_id'").fetchone()
    if row[0] != topic_id:
        raise HistoryError(
            f"{path} was filled from the topic with id {row[0]}, the cluster's segments.history "
            f"has id {topic_id}: the topic was deleted and created again, or this is another "
            f"cluster. "
            "Move the file away (and keep it) to start a new one"
        )
