"""Durable store of report jobs: a small SQLite file, used by one process.

Every change of a job is on disk before it becomes visible.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import aiosqlite

from segments.contracts.times import now_ms
from segments.telemetry import logs

JobState = Literal["queued", "running", "done", "failed"]
JOBS_SCHEMA_VERSION = 1
_DAY_MS = 86_400_000
_TABLE = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job_id TEXT NOT NULL UNIQUE,
    idempotency_key TEXT UNIQUE,
    destination TEXT NOT NULL,
    request TEXT NOT NULL,
    wanted_ms INTEGER NOT NULL,
    at_least_ms INTEGER NOT NULL,
    created_ms INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    started_ms INTEGER,
    finished_ms INTEGER,
    complete_ms INTEGER,
    name TEXT,
    rows_total INTEGER,
    rows_written INTEGER NOT NULL,
    bytes_written INTEGER NOT NULL,
    leftover TEXT,
    url TEXT,
    url_expires_ms INTEGER,
    error_code TEXT,
    error_detail TEXT
) STRICT;
CREATE INDEX by_state ON jobs (state, number);
"""

log = logs.get(__name__)


class QueueFullError(Exception):
    """The maximum number of jobs is queued."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job; timestamps in ms. `request` is the JSON of the ReportRequest.

    `complete_ms`, the timestamp up to which the report is complete, and `name` stay the same from
    the first attempt on, so that every attempt makes the same file. `leftover` identifies what an
    attempt has begun at the destination, in the destination's own format.
    """

    number: int = 0
    job_id: str
    idempotency_key: str | None = None
    destination: str
    request: str
    wanted_ms: int
    at_least_ms: int
    created_ms: int
    state: JobState = "queued"
    attempts: int = 0
    started_ms: int | None = None
    finished_ms: int | None = None
    complete_ms: int | None = None
    name: str | None = None
    rows_total: int | None = None
    rows_written: int = 0
    bytes_written: int = 0
    leftover: str | None = None
    url: str | None = None
    url_expires_ms: int | None = None
    error_code: str | None = None
    error_detail: str | None = None

    @property
    def ended(self) -> bool:
        """Whether the job is finished."""
        return self.state in ("done", "failed")


_COLUMNS = tuple(field.name for field in fields(Job))
_INSERTED = _COLUMNS[1:]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs "  # noqa: S608 - our own names


class JobStore:
    """The jobs of one sidecar; create it with `open_store`."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    async def add(self, job: Job, max_queued: int) -> tuple[Job, bool]:
        """Add a job: (stored job, whether it is new); the existing job if the key was used before.

        QueueFullError if `max_queued` jobs are queued.
        """
        async with self._lock:
            if job.idempotency_key is not None:
                known = await self._jobs("WHERE idempotency_key = ?", job.idempotency_key)
                if known:
                    return known[0], False
            [waiting] = await self._rows("SELECT count(*) FROM jobs WHERE state = 'queued'")
            if waiting[0] >= max_queued:
                raise QueueFullError
            placeholders = ", ".join("?" * len(_INSERTED))
            await self._connection.execute(
                f"INSERT INTO jobs ({', '.join(_INSERTED)}) VALUES ({placeholders})",  # noqa: S608
                [getattr(job, name) for name in _INSERTED],
            )
            [stored] = await self._jobs("WHERE job_id = ?", job.job_id)
            return stored, True

    async def get(self, job_id: str) -> Job | None:
        """The job with this id."""
        return next(iter(await self._jobs("WHERE job_id = ?", job_id)), None)

    async def newest(self, limit: int, before: int | None = None) -> list[Job]:
        """At most `limit` jobs, newest first, with numbers below `before`."""
        below = 2**62 if before is None else before
        return await self._jobs("WHERE number < ? ORDER BY number DESC LIMIT ?", below, limit)

    async def claim(self) -> Job | None:
        """Take the job that was queued first: now running, with one more attempt."""
        async with self._lock:
            found = await self._jobs("WHERE state = 'queued' ORDER BY number LIMIT 1")
            if not found:
                return None
            [job] = found
            started_ms = job.started_ms or now_ms()
            return await self.change(
                job.job_id, state="running", attempts=job.attempts + 1, started_ms=started_ms
            )

    async def change(self, job_id: str, **values: Any) -> Job:
        """Set these values and return the job, once they are on disk."""
        assert values.keys() <= set(_INSERTED), values
        placeholders = ", ".join(f"{name} = ?" for name in values)
        await self._connection.execute(
            f"UPDATE jobs SET {placeholders} WHERE job_id = ?",  # noqa: S608 - our own names
            [*values.values(), job_id],
        )
        [job] = await self._jobs("WHERE job_id = ?", job_id)
        return job

    async def withdraw(self, job_id: str, code: str, detail: str) -> bool:
        """Fail a queued job; returns whether it was queued."""
        async with self._lock:
            cursor = await self._connection.execute(
                "UPDATE jobs SET state = 'failed', finished_ms = ?, error_code = ?,"
                " error_detail = ? WHERE job_id = ? AND state = 'queued'",
                (now_ms(), code, detail, job_id),
            )
            return cursor.rowcount == 1

    async def requeue(self) -> int:
        """Queue running jobs again; returns how many."""
        cursor = await self._connection.execute(
            "UPDATE jobs SET state = 'queued' WHERE state = 'running'"
        )
        return cursor.rowcount

    async def count(self) -> dict[tuple[str, str], int]:
        """(state, destination) -> number of jobs."""
        rows = await self._rows(
            "SELECT state, destination, count(*) FROM jobs GROUP BY state, destination"
        )
        return {(state, destination): number for state, destination, number in rows}

    async def prune(self, keep_days: float, keep_jobs: int) -> None:
        """Delete finished jobs older than `keep_days`, and all but the newest `keep_jobs`."""
        await self._connection.execute(
            "DELETE FROM jobs WHERE state IN ('done', 'failed') AND (finished_ms < ? OR number <= ("
            "SELECT number FROM jobs WHERE state IN ('done', 'failed')"
            " ORDER BY number DESC LIMIT 1 OFFSET ?))",
            (now_ms() - round(keep_days * _DAY_MS), keep_jobs),
        )

    async def close(self) -> None:
        """Close the file."""
        await self._connection.close()

    async def _jobs(self, condition: str, *values: Any) -> list[Job]:
        rows = await self._rows(_SELECT + condition, *values)
        return [Job(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    async def _rows(self, statement: str, *values: Any) -> list[Any]:
        return list(await self._connection.execute_fetchall(statement, values))


async def open_store(path: Path) -> JobStore:
    """Open the jobs in a file, which is created if missing.

    A damaged file is renamed and a new one created: the sidecar serves more than reports.
    """
    await asyncio.to_thread(_prepare, path)
    try:
        return JobStore(await _connect(path))
    except sqlite3.OperationalError:
        raise  # an error of the disk, the file may be intact
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.damaged-{now_ms()}")
        log.warning("report_jobs_reset", error=str(error), kept=str(aside))
    await asyncio.to_thread(path.replace, aside)
    await asyncio.to_thread(_prepare, path)
    return JobStore(await _connect(path))


def _prepare(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # It contains signed links.
    path.touch(mode=0o600)


async def _connect(path: Path) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path, isolation_level=None)
    try:
        await connection.execute("PRAGMA journal_mode = TRUNCATE")
        await connection.execute("PRAGMA synchronous = FULL")
        await _check(connection)
    except BaseException:
        await connection.close()
        raise
    return connection


async def _check(connection: aiosqlite.Connection) -> None:
    """Create the table if missing. DatabaseError if the file is not a valid job store."""
    [[version]] = await connection.execute_fetchall("PRAGMA user_version")
    if version == 0:
        await connection.executescript(
            f"BEGIN; {_TABLE} PRAGMA user_version = {JOBS_SCHEMA_VERSION}; COMMIT;"
        )
    elif version != JOBS_SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"unknown schema version {version}")
    [[check]] = await connection.execute_fetchall("PRAGMA quick_check(1)")
    if check != "ok":
        raise sqlite3.DatabaseError(str(check))
