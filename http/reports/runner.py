"""Runs the jobs that put reports somewhere: queued, tried again, ended, and told about."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from aiohttp import web

from segments.contracts.times import now_ms
from segments.http.context import SERVICES, Services
from segments.http.problems import Problem
from segments.http.reports.job import CANCELLED, Work
from segments.http.reports.job_store import Job, QueueFullError, ReportJobs, opened
from segments.http.reports.rows import Needed, ReportRequest
from segments.settings import Settings
from segments.telemetry import logs, metrics

_AGAIN_S = 1.0
_CANCEL_S = 45.0
_STATES = ("queued", "running", "done", "failed")

log = logs.get(__name__)


class Runner:
    """The jobs of this sidecar."""

    def __init__(self, services: Services, jobs: ReportJobs) -> None:
        self._services = services
        self._settings = services.settings.reports
        self._jobs = jobs
        self._works: dict[str, Work] = {}
        self._wake = asyncio.Event()
        self._ended = asyncio.Condition()
        self._waiters = 0
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Take up again what ran when the process ended; begin to work."""
        if again := await self._jobs.requeue():
            log.info("reports are begun again", jobs=again)
        await self._tell()
        self._workers = [
            asyncio.create_task(self._work()) for _ in range(self._settings.max_running)
        ]

    async def close(self) -> None:
        """Stop; what runs is put back and begun again at the next start."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._jobs.close()

    async def submit(
        self, request: ReportRequest, destination: str, key: str | None, wanted: Needed
    ) -> Job:
        """The job for this, which is there already when its key was used before.

        Problem 503 when enough wait, 422 when the key was used for something else.
        """
        job = Job(
            job_id=str(uuid4()),
            idempotency_key=key,
            destination=destination,
            request=request.model_dump_json(exclude_defaults=True),
            wanted_ms=wanted.wanted_ms,
            at_least_ms=wanted.at_least_ms,
            created_ms=now_ms(),
        )
        try:
            kept, new = await self._jobs.add(job, self._settings.max_queued)
        except QueueFullError:
            raise Problem(
                503, "busy", "too many reports wait for their turn", headers={"Retry-After": "30"}
            ) from None
        finally:
            # In any case: it may have been written down although whoever asked for it has gone.
            self._wake.set()
        if (kept.request, kept.destination) != (job.request, job.destination):
            raise Problem(
                422,
                "idempotency_key_reused",
                f"this key began job {kept.job_id}, for another report",
            )
        if new:
            await self._count()
        return self._shown(kept)

    async def get(self, job_id: str, wait_s: float = 0.0) -> Job | None:
        """A job as it is now, or once it has ended, after waiting at most this long."""
        job = await self._jobs.get(job_id)
        if job is None or job.ended or wait_s <= 0:
            return None if job is None else self._shown(job)
        if self._waiters >= self._services.settings.http.max_waiters:
            raise Problem(
                503, "busy", "too many requests are waiting", headers={"Retry-After": "1"}
            )
        self._waiters += 1
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s), self._ended:
                    while (job := await self._jobs.get(job_id)) is not None and not job.ended:
                        await self._ended.wait()
        finally:
            self._waiters -= 1
        job = await self._jobs.get(job_id)
        return None if job is None else self._shown(job)

    async def newest(self, limit: int, before: int | None) -> list[Job]:
        """Jobs, newest first, with numbers below `before`."""
        return [self._shown(job) for job in await self._jobs.newest(limit, before)]

    async def cancel(self, job_id: str) -> Job | None:
        """End a job that has not ended; as it is then. Its file may have been just in time."""
        if await self._jobs.withdraw(job_id, CANCELLED.code, str(CANCELLED)):
            await self._tell()
        elif (work := self._works.get(job_id)) is not None:
            await work.cancel(_CANCEL_S)
        return await self.get(job_id)

    def _shown(self, job: Job) -> Job:
        """With what has been written by now."""
        work = self._works.get(job.job_id)
        if work is None or job.ended:
            return job
        return replace(job, rows_written=work.rows_written, bytes_written=work.bytes_written)

    async def _work(self) -> None:
        """Take one job after the other, for ever."""
        while True:
            self._wake.clear()
            try:
                job = await self._jobs.claim()
            except sqlite3.Error as error:
                log.warning("jobs of reports cannot be read or written", error=str(error))
                await asyncio.sleep(_AGAIN_S)
                continue
            if job is None:
                await self._wake.wait()
                continue
            self._works[job.job_id] = work = Work(self._services, self._jobs, job)
            try:
                await asyncio.gather(work.run(), self._count())
            except Exception:
                # Begun again at the next start.
                log.exception("a report's job was left as it is", job=job.job_id)
            finally:
                del self._works[job.job_id]
            await self._tell()

    async def _tell(self) -> None:
        """Wake those who wait for the end of a job, and forget what ended long ago."""
        async with self._ended:
            self._ended.notify_all()
        try:
            await self._jobs.prune(self._settings.keep_days, self._settings.keep_jobs)
            await self._count()
        except sqlite3.Error as error:
            log.warning("jobs of reports cannot be read or written", error=str(error))

    async def _count(self) -> None:
        kinds = {name: each.kind for name, each in self._settings.destinations.items()}
        numbers = {(state, kind): 0 for state in _STATES for kind in kinds.values()}
        try:
            found = await self._jobs.count()
        except sqlite3.Error as error:
            log.warning("jobs of reports cannot be counted", error=str(error))
            return
        for (state, destination), number in found.items():
            if destination in kinds:
                numbers[state, kinds[destination]] += number
        for (state, kind), number in numbers.items():
            metrics.REPORT_JOBS.labels(state, kind).set(number)
        for kind in kinds.values():
            # Counted from zero on: the first that fails is an increase as well.
            for end in ("done", "failed", CANCELLED.code):
                metrics.REPORT_JOBS_ENDED.labels(kind, end)


RUNNER = web.AppKey("report_runner", Runner)


def jobs_file(settings: Settings) -> Path:
    """Where this instance keeps its jobs."""
    return settings.data_dir / f"http-{settings.instance}" / "reports.sqlite3"


async def running(app: web.Application) -> AsyncIterator[None]:
    """The runner of an application, from its start to its end (aiohttp's `cleanup_ctx`)."""
    services = app[SERVICES]
    runner = app[RUNNER] = Runner(services, await opened(jobs_file(services.settings)))
    await runner.start()
    yield
    await runner.close()
