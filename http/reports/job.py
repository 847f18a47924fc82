"""The life of one job: when its report can be made, its tries, its end."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from contextlib import suppress
from typing import Any

from segments.contracts.times import now_ms
from segments.destinations.base import Destination, Stored
from segments.destinations.factory import create_destination
from segments.destinations.upload import UploadProgress
from segments.http.context import Services
from segments.http.reports.attempt import Trouble, attempt, complete_ms, discard
from segments.http.reports.file_names import file_name
from segments.http.reports.job_store import Job, ReportJobs
from segments.http.reports.rows import ReportRequest
from segments.telemetry import logs, metrics

CANCELLED = Trouble("cancelled", "the job was cancelled", lasting=True)
_INTERNAL = Trouble("internal", "an unexpected error; the log has it")
_AGAIN_S = 1.0

log = logs.get(__name__)


class Work:
    """A job that has been claimed. It is worked on from now on; `run` sees to its end."""

    def __init__(self, services: Services, jobs: ReportJobs, job: Job) -> None:
        self._services = services
        self._settings = services.settings.reports
        self._jobs = jobs
        self._job = job
        self._request = ReportRequest.kept(job.request)
        self._progress = UploadProgress()
        self._over = asyncio.Event()
        # At once: whoever knows of it can cancel it.
        self._task = asyncio.create_task(self._outcome())

    @property
    def rows_written(self) -> int:
        """Rows that the destination has taken in this try."""
        return max(0, self._progress.rows - self._request.header)

    @property
    def bytes_written(self) -> int:
        """Bytes that the destination has taken in this try."""
        return self._progress.bytes

    async def cancel(self, wait_s: float) -> None:
        """End it, and wait until it has ended, but no longer than this."""
        self._task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._over.wait()

    async def run(self) -> None:
        """Work on it until it has ended. Cancelled: it is put back, to be begun again."""
        started_s = time.monotonic()
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            if self._progress.stored is None:
                await self._put_back()
            else:
                await self._end(self._progress.stored, time.monotonic() - started_s)
            raise
        else:
            await self._end(self._result(self._task), time.monotonic() - started_s)
        finally:
            self._over.set()

    async def _put_back(self) -> None:
        try:
            await self._change(state="queued", attempts=self._job.attempts - 1)
        except sqlite3.Error as error:
            # The next start does it; this end goes on.
            log.warning("a report's job cannot be put back", error=str(error))

    def _result(self, task: asyncio.Task[Stored | Trouble]) -> Stored | Trouble:
        if task.cancelled():
            return self._progress.stored or CANCELLED
        if (error := task.exception()) is not None:
            log.error("a job of a report failed", job=self._job.job_id, exc_info=error)
            return _INTERNAL
        return task.result()

    async def _outcome(self) -> Stored | Trouble:
        """Where the report is, or why it is nowhere."""
        described = self._settings.destinations.get(self._job.destination)
        if described is None:
            detail = f"{self._job.destination} is no longer among the destinations"
            return Trouble("destination_unknown", detail, lasting=True)
        if self._job.attempts > self._settings.attempts:
            return Trouble("interrupted", "the sidecar ended in the middle of the last try")
        destination = create_destination(described, self._settings.step_timeout_s)
        outcome: Stored | Trouble = Trouble("timeout", "")
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._decide()
                outcome = await self._tries(destination)
        except TimeoutError:
            if self._progress.stored is not None:
                return self._progress.stored
            last = f"; at last: {self._job.error_detail}" if self._job.error_detail else ""
            outcome = Trouble("timeout", f"not done within {self._settings.timeout_s:g} s{last}")
        return outcome

    async def _decide(self) -> None:
        """Up to which instant the report goes, once and for all tries."""
        if self._job.complete_ms is not None:
            return
        store_ms = await complete_ms(self._services, self._job, self._note)
        until_ms = min(store_ms, self._request.wanted().to_ms)
        stable = self._settings.file_names == "stable"
        name = file_name(self._request, until_ms, stable=stable)
        await self._change(complete_ms=until_ms, name=name)

    async def _tries(self, destination: Destination) -> Stored | Trouble:
        while True:
            await self._clear(destination)
            self._progress.rows = self._progress.bytes = 0
            try:
                return await attempt(
                    self._services,
                    self._job,
                    self._request.wanted(),
                    destination,
                    self._progress,
                    counted=lambda rows: self._change(rows_total=rows),
                    remember=lambda leftover: self._change(leftover=leftover),
                )
            except Trouble as trouble:
                if trouble.lasting or self._job.attempts >= self._settings.attempts:
                    return trouble
                await self._note(trouble)
                await asyncio.sleep(self._wait_s(trouble))
                await self._change(attempts=self._job.attempts + 1)

    async def _clear(self, destination: Destination) -> None:
        """Take away what a try has left that could not do it itself."""
        if self._job.leftover is not None:
            await discard(destination, self._job.leftover)
            await self._change(leftover=None)

    def _wait_s(self, trouble: Trouble) -> float:
        """Before the next try: longer each time, and never the same as another job's."""
        doubled_ms: int = self._settings.backoff_ms * 2 ** min(self._job.attempts - 1, 30)
        longest_ms = min(doubled_ms, self._settings.backoff_max_ms)
        wait_s = longest_ms / 1000 * random.uniform(0.5, 1)  # noqa: S311 - no secret
        return max(wait_s, trouble.retry_after_s or 0)

    async def _note(self, trouble: Trouble) -> None:
        """Let it be seen why it takes so long."""
        log.warning(
            "a report waits to be tried again",
            job=self._job.job_id,
            destination=self._job.destination,
            attempt=self._job.attempts,
            reason=str(trouble),
        )
        await self._change(error_code=trouble.code, error_detail=str(trouble))

    async def _change(self, **values: Any) -> None:
        self._job = await self._jobs.change(self._job.job_id, **values)

    async def _end(self, outcome: Stored | Trouble, took_s: float) -> None:
        values: dict[str, Any] = {
            "finished_ms": now_ms(),
            "rows_written": self.rows_written,
            "bytes_written": self.bytes_written,
        }
        if isinstance(outcome, Stored):
            values |= {"state": "done", "url": outcome.url, "url_expires_ms": outcome.expires_ms}
            values |= {"leftover": None, "error_code": None, "error_detail": None}
        else:
            values |= {"state": "failed", "error_code": outcome.code, "error_detail": str(outcome)}
        described = self._settings.destinations.get(self._job.destination)
        while True:
            try:
                if values["state"] == "failed" and described is not None:
                    await self._clear(create_destination(described, self._settings.step_timeout_s))
                await self._change(**values)
                break
            except sqlite3.Error as error:
                # Whoever waits shall not be told what is forgotten at a crash.
                log.warning("the end of a report's job cannot be written", error=str(error))
                await asyncio.sleep(_AGAIN_S)
        self._say(took_s)

    def _say(self, took_s: float) -> None:
        job = self._job
        described = self._settings.destinations.get(job.destination)
        kind = "unknown" if described is None else described.kind
        metrics.REPORT_JOB_SECONDS.labels(kind, job.error_code or "done").observe(took_s)
        metrics.REPORT_BYTES.labels(kind).inc(job.bytes_written)
        end = CANCELLED.code if job.error_code == CANCELLED.code else job.state
        metrics.REPORT_JOBS_ENDED.labels(kind, end).inc()
        told = {"job": job.job_id, "destination": job.destination, "attempts": job.attempts}
        if job.state == "done":
            log.info("a report is where it was to go", file=job.name, rows=job.rows_total, **told)
        else:
            reason = job.error_detail
            log.warning("a report could not be put where it was to go", reason=reason, **told)
