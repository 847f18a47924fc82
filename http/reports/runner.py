"""Runs the queue of jobs that deliver reports, and answers queries about them."""

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
from segments.http.reports.job import CANCELLED, RunningJob
from segments.http.reports.job_store import Job, JobStore, QueueFullError, open_store
from segments.http.reports.rows import ReportRequest, WatermarkTarget
from segments.settings import Settings
from segments.telemetry import logs, metrics

_RETRY_S = 1.0
_CANCEL_S = 45.0
_STATES = ("queued", "running", "done", "failed")

log = logs.get(__name__)


class JobRunner:
    """Runs the jobs of this sidecar, up to `reports.max_running` at a time."""

    def __init__(self, services: Services, jobs: JobStore) -> None:
        self._services = services
        self._settings = services.settings.reports
        self._jobs = jobs
        self._running: dict[str, RunningJob] = {}
        self._wake = asyncio.Event()
        self._ended = asyncio.Condition()
        self._waiters = 0
        self._workers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Queue the jobs that ran when the process stopped again, and start the workers."""
        if requeued := await self._jobs.requeue():
            log.info("report_jobs_requeued", jobs=requeued)
        await self._update()
        self._workers = [
            asyncio.create_task(self._work()) for _ in range(self._settings.max_running)
        ]

    async def close(self) -> None:
        """Stop; running jobs are queued again and restart with the next process."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        await self._jobs.close()

    async def submit(
        self, request: ReportRequest, destination: str, key: str | None, target: WatermarkTarget
    ) -> Job:
        """Create a job, or return the existing one with the same key.

        Problem 503 if the queue is full, 422 if the key was used for another report.
        """
        job = Job(
            job_id=str(uuid4()),
            idempotency_key=key,
            destination=destination,
            request=request.model_dump_json(exclude_defaults=True),
            wanted_ms=target.target_ms,
            at_least_ms=target.minimum_ms,
            created_ms=now_ms(),
        )
        try:
            stored, new = await self._jobs.add(job, self._settings.max_queued)
        except QueueFullError:
            raise Problem(
                503, "busy", "too many reports are queued", headers={"Retry-After": "30"}
            ) from None
        finally:
            # Always: the job may be stored although the client has disconnected.
            self._wake.set()
        if (stored.request, stored.destination) != (job.request, job.destination):
            raise Problem(
                422,
                "idempotency_key_reused",
                f"this key belongs to job {stored.job_id}, for another report",
            )
        if new:
            await self._update_metrics()
        return self._with_progress(stored)

    async def get(self, job_id: str, wait_s: float = 0.0) -> Job | None:
        """A job, after waiting up to `wait_s` for it to finish."""
        job = await self._jobs.get(job_id)
        if job is None or job.ended or wait_s <= 0:
            return None if job is None else self._with_progress(job)
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
        return None if job is None else self._with_progress(job)

    async def newest(self, limit: int, before: int | None) -> list[Job]:
        """Jobs, newest first, with numbers below `before`."""
        return [self._with_progress(job) for job in await self._jobs.newest(limit, before)]

    async def cancel(self, job_id: str) -> Job | None:
        """Cancel an unfinished job and return it. It may still finish, if its file was complete."""
        if await self._jobs.withdraw(job_id, CANCELLED.code, str(CANCELLED)):
            await self._update()
        elif (running := self._running.get(job_id)) is not None:
            await running.cancel(_CANCEL_S)
        return await self.get(job_id)

    def _with_progress(self, job: Job) -> Job:
        """The job with the rows and bytes written so far."""
        running = self._running.get(job.job_id)
        if running is None or job.ended:
            return job
        return replace(job, rows_written=running.rows_written, bytes_written=running.bytes_written)

    async def _work(self) -> None:
        """Run queued jobs one after the other."""
        while True:
            self._wake.clear()
            try:
                job = await self._jobs.claim()
            except sqlite3.Error as error:
                log.warning("report_jobs_unavailable", error=str(error))
                await asyncio.sleep(_RETRY_S)
                continue
            if job is None:
                await self._wake.wait()
                continue
            self._running[job.job_id] = running = RunningJob(self._services, self._jobs, job)
            try:
                await asyncio.gather(running.run(), self._update_metrics())
            except Exception:
                # It is queued again at the next start.
                log.exception("report_job_abandoned", job=job.job_id)
            finally:
                del self._running[job.job_id]
            await self._update()

    async def _update(self) -> None:
        """Wake requests that wait for a job, delete old jobs and update the metrics."""
        async with self._ended:
            self._ended.notify_all()
        try:
            await self._jobs.prune(self._settings.keep_days, self._settings.keep_jobs)
            await self._update_metrics()
        except sqlite3.Error as error:
            log.warning("report_jobs_unavailable", error=str(error))

    async def _update_metrics(self) -> None:
        kinds = {name: each.kind for name, each in self._settings.destinations.items()}
        numbers = {(state, kind): 0 for state in _STATES for kind in kinds.values()}
        try:
            found = await self._jobs.count()
        except sqlite3.Error as error:
            log.warning("report_jobs_unavailable", error=str(error))
            return
        for (state, destination), number in found.items():
            if destination in kinds:
                numbers[state, kinds[destination]] += number
        for (state, kind), number in numbers.items():
            metrics.REPORT_JOBS.labels(state, kind).set(number)
        for kind in kinds.values():
            # Initialized to zero, so that the first failure is an increase too.
            for end in ("done", "failed", CANCELLED.code):
                metrics.REPORT_JOBS_ENDED.labels(kind, end)


JOB_RUNNER = web.AppKey("report_runner", JobRunner)


def jobs_file(settings: Settings) -> Path:
    """The file with this instance's jobs."""
    return settings.data_dir / f"http-{settings.instance}" / "reports.sqlite3"


async def run_jobs(app: web.Application) -> AsyncIterator[None]:
    """Start and stop the job runner of an application (aiohttp's `cleanup_ctx`)."""
    services = app[SERVICES]
    runner = app[JOB_RUNNER] = JobRunner(services, await open_store(jobs_file(services.settings)))
    await runner.start()
    yield
    await runner.close()
