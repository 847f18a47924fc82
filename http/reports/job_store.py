"""Jobs that put reports somewhere, in a small SQLite file: they survive the sidecar's end.

Every change of a job is on the disk before it is told to anyone. One process works with a file.
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

State = Literal["queued", "running", "done", "failed"]
SCHEMA_VERSION = 1
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
    """As many jobs wait as may."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job; instants in ms. `request` is the JSON of what was asked for.

    `complete_ms`, the instant up to which the report is complete, and with it `name` stay the same
    from the first try on, so that every try makes the same file. `leftover` is what a try has begun
    at the destination, in the destination's own words.
    """

    number: int = 0
    job_id: str
    idempotency_key: str | None = None
    destination: str
    request: str
    wanted_ms: int
    at_least_ms: int
    created_ms: int
    state: State = "queued"
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
        """Whether nothing more will happen to it."""
        return self.state in ("done", "failed")


_COLUMNS = tuple(field.name for field in fields(Job))
_GIVEN = _COLUMNS[1:]
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM jobs "  # noqa: S608 - our own names


class ReportJobs:
    """The jobs of one sidecar. Ask `opened` for one."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._turn = asyncio.Lock()

    async def add(self, job: Job, max_queued: int) -> tuple[Job, bool]:
        """(the job as it is kept, whether it is new): another one when its key was there before.

        QueueFullError when as many as `max_queued` wait.
        """
        async with self._turn:
            if job.idempotency_key is not None:
                known = await self._jobs("WHERE idempotency_key = ?", job.idempotency_key)
                if known:
                    return known[0], False
            [waiting] = await self._rows("SELECT count(*) FROM jobs WHERE state = 'queued'")
            if waiting[0] >= max_queued:
                raise QueueFullError
            places = ", ".join("?" * len(_GIVEN))
            await self._connection.execute(
                f"INSERT INTO jobs ({', '.join(_GIVEN)}) VALUES ({places})",  # noqa: S608
                [getattr(job, name) for name in _GIVEN],
            )
            [kept] = await self._jobs("WHERE job_id = ?", job.job_id)
            return kept, True

    async def get(self, job_id: str) -> Job | None:
        """The job with this id."""
        return next(iter(await self._jobs("WHERE job_id = ?", job_id)), None)

    async def newest(self, limit: int, before: int | None = None) -> list[Job]:
        """At most `limit` jobs, newest first, with numbers below `before`."""
        below = 2**62 if before is None else before
        return await self._jobs("WHERE number < ? ORDER BY number DESC LIMIT ?", below, limit)

    async def claim(self) -> Job | None:
        """The job that has waited longest, now running and with one attempt more."""
        async with self._turn:
            found = await self._jobs("WHERE state = 'queued' ORDER BY number LIMIT 1")
            if not found:
                return None
            [job] = found
            started_ms = job.started_ms or now_ms()
            return await self.change(
                job.job_id, state="running", attempts=job.attempts + 1, started_ms=started_ms
            )

    async def change(self, job_id: str, **values: Any) -> Job:
        """The job with these values, which are on the disk by then."""
        assert values.keys() <= set(_GIVEN), values
        places = ", ".join(f"{name} = ?" for name in values)
        await self._connection.execute(
            f"UPDATE jobs SET {places} WHERE job_id = ?",  # noqa: S608 - our own names
            [*values.values(), job_id],
        )
        [job] = await self._jobs("WHERE job_id = ?", job_id)
        return job

    async def withdraw(self, job_id: str, code: str, detail: str) -> bool:
        """End a job that has not begun; whether it was one."""
        async with self._turn:
            cursor = await self._connection.execute(
                "UPDATE jobs SET state = 'failed', finished_ms = ?, error_code = ?,"
                " error_detail = ? WHERE job_id = ? AND state = 'queued'",
                (now_ms(), code, detail, job_id),
            )
            return cursor.rowcount == 1

    async def requeue(self) -> int:
        """Put the jobs back that ran when the process ended; how many."""
        cursor = await self._connection.execute(
            "UPDATE jobs SET state = 'queued' WHERE state = 'running'"
        )
        return cursor.rowcount

    async def count(self) -> dict[tuple[str, str], int]:
        """(state, destination) -> how many jobs."""
        rows = await self._rows(
            "SELECT state, destination, count(*) FROM jobs GROUP BY state, destination"
        )
        return {(state, destination): number for state, destination, number in rows}

    async def prune(self, keep_days: float, keep_jobs: int) -> None:
        """Forget jobs that ended long ago, and the oldest ended ones where there are many."""
        await self._connection.execute(
            "DELETE FROM jobs WHERE state IN ('done', 'failed') AND (finished_ms < ? OR number <= ("
            "SELECT number FROM jobs WHERE state IN ('done', 'failed')"
            " ORDER BY number DESC LIMIT 1 OFFSET ?))",
            (now_ms() - round(keep_days * _DAY_MS), keep_jobs),
        )

    async def close(self) -> None:
        """Release the file."""
        await self._connection.close()

    async def _jobs(self, condition: str, *values: Any) -> list[Job]:
        rows = await self._rows(_SELECT + condition, *values)
        return [Job(**dict(zip(_COLUMNS, row, strict=True))) for row in rows]

    async def _rows(self, statement: str, *values: Any) -> list[Any]:
        return list(await self._connection.execute_fetchall(statement, values))


async def opened(path: Path) -> ReportJobs:
    """The jobs in a file, which is made when absent.

    A file that cannot be read as one is put aside, and a new one begun: the sidecar has more to do.
    """
    await asyncio.to_thread(_prepare, path)
    try:
        return ReportJobs(await _connected(path))
    except sqlite3.OperationalError:
        raise  # of the disk, not of the file
    except sqlite3.DatabaseError as error:
        aside = path.with_name(f"{path.name}.damaged-{now_ms()}")
        told = {"error": str(error), "kept": str(aside)}
        log.warning("the jobs of reports cannot be read and are begun anew", **told)
    await asyncio.to_thread(path.replace, aside)
    await asyncio.to_thread(_prepare, path)
    return ReportJobs(await _connected(path))


def _prepare(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Links that are signed stand in it.
    path.touch(mode=0o600)


async def _connected(path: Path) -> aiosqlite.Connection:
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
    """Make the table where there is none. DatabaseError when the file is not what it should be."""
    [[version]] = await connection.execute_fetchall("PRAGMA user_version")
    if version == 0:
        await connection.executescript(
            f"BEGIN; {_TABLE} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
        )
    elif version != SCHEMA_VERSION:
        raise sqlite3.DatabaseError(f"it has schema version {version}")
    [[check]] = await connection.execute_fetchall("PRAGMA quick_check(1)")
    if check != "ok":
        raise sqlite3.DatabaseError(str(check))
