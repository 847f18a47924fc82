"""Runs one job: waits for the watermark, makes attempts, records the result."""

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
from segments.http.reports.attempt import AttemptError, attempt, complete_ms, discard
from segments.http.reports.file_names import file_name
from segments.http.reports.job_store import Job, JobStore
from segments.http.reports.rows import ReportRequest
from segments.telemetry import logs, metrics

CANCELLED = AttemptError("cancelled", "the job was cancelled", permanent=True)
_INTERNAL = AttemptError("internal", "an unexpected error; the log has the details")
_RETRY_S = 1.0

log = logs.get(__name__)


class RunningJob:
    """A claimed job. It starts on creation; `run` waits for it and records its result."""

    def __init__(self, services: Services, jobs: JobStore, job: Job) -> None:
        self._services = services
        self._settings = services.settings.reports
        self._jobs = jobs
        self._job = job
        self._request = ReportRequest.stored(job.request)
        self._progress = UploadProgress()
        self._finished = asyncio.Event()
        # Started here, so that it can be cancelled as soon as it is visible.
        self._task = asyncio.create_task(self._run_attempts())

    @property
    def rows_written(self) -> int:
        """Rows that the destination has received in this attempt."""
        return max(0, self._progress.rows - self._request.header)

    @property
    def bytes_written(self) -> int:
        """Bytes that the destination has received in this attempt."""
        return self._progress.bytes

    async def cancel(self, wait_s: float) -> None:
        """Cancel the job and wait up to `wait_s` until it has finished."""
        self._task.cancel()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._finished.wait()

    async def run(self) -> None:
        """Wait until the job has finished. If cancelled, the job is queued again."""
        started_s = time.monotonic()
        try:
            await asyncio.wait([self._task])
        except asyncio.CancelledError:
            self._task.cancel()
            await asyncio.wait([self._task])
            if self._progress.stored is None:
                await self._requeue()
            else:
                await self._finish(self._progress.stored, time.monotonic() - started_s)
            raise
        else:
            await self._finish(self._result(self._task), time.monotonic() - started_s)
        finally:
            self._finished.set()

    async def _requeue(self) -> None:
        try:
            await self._change(state="queued", attempts=self._job.attempts - 1)
        except sqlite3.Error as error:
            # The next start does it; the shutdown continues.
            log.warning("report_job_not_requeued", job=self._job.job_id, error=str(error))

    def _result(self, task: asyncio.Task[Stored | AttemptError]) -> Stored | AttemptError:
        if task.cancelled():
            return self._progress.stored or CANCELLED
        if (error := task.exception()) is not None:
            log.error("report_job_crashed", job=self._job.job_id, exc_info=error)
            return _INTERNAL
        return task.result()

    async def _run_attempts(self) -> Stored | AttemptError:
        """Run the job: where the report was stored, or why it was not."""
        config = self._settings.destinations.get(self._job.destination)
        if config is None:
            detail = f"the destination {self._job.destination} no longer exists"
            return AttemptError("destination_unknown", detail, permanent=True)
        if self._job.attempts > self._settings.attempts:
            return AttemptError("interrupted", "the sidecar stopped during the last attempt")
        destination = create_destination(config, self._settings.step_timeout_s)
        outcome: Stored | AttemptError = AttemptError("timeout", "")
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._fix_end()
                outcome = await self._attempts(destination)
        except TimeoutError:
            if self._progress.stored is not None:
                return self._progress.stored
            last = f"; last error: {self._job.error_detail}" if self._job.error_detail else ""
            outcome = AttemptError(
                "timeout", f"not done within {self._settings.timeout_s:g} s{last}"
            )
        return outcome

    async def _fix_end(self) -> None:
        """Fix the end of the report and its file name, for all attempts."""
        if self._job.complete_ms is not None:
            return
        store_ms = await complete_ms(self._services, self._job, self._record_wait)
        until_ms = min(store_ms, self._request.report_filter().to_ms)
        stable = self._settings.file_names == "stable"
        name = file_name(self._request, until_ms, stable=stable)
        await self._change(complete_ms=until_ms, name=name)

    async def _attempts(self, destination: Destination) -> Stored | AttemptError:
        while True:
            await self._remove_leftover(destination)
            self._progress.rows = self._progress.bytes = 0
            try:
                return await attempt(
                    self._services,
                    self._job,
                    self._request.report_filter(),
                    destination,
                    self._progress,
                    on_row_count=lambda rows: self._change(rows_total=rows),
                    remember=lambda leftover: self._change(leftover=leftover),
                )
            except AttemptError as error:
                if error.permanent or self._job.attempts >= self._settings.attempts:
                    return error
                await self._record_wait(error)
                await asyncio.sleep(self._backoff_s(error))
                await self._change(attempts=self._job.attempts + 1)

    async def _remove_leftover(self, destination: Destination) -> None:
        """Remove what an interrupted attempt has left at the destination."""
        if self._job.leftover is not None:
            await discard(destination, self._job.leftover)
            await self._change(leftover=None)

    def _backoff_s(self, error: AttemptError) -> float:
        """Exponential backoff with jitter before the next attempt."""
        doubled_ms: int = self._settings.backoff_ms * 2 ** min(self._job.attempts - 1, 30)
        longest_ms = min(doubled_ms, self._settings.backoff_max_ms)
        wait_s = longest_ms / 1000 * random.uniform(0.5, 1)  # noqa: S311 - no secret
        return max(wait_s, error.retry_after_s or 0)

    async def _record_wait(self, reason: AttemptError) -> None:
        """Log and store why the job has to wait."""
        log.warning(
            "report_job_waiting",
            job=self._job.job_id,
            destination=self._job.destination,
            attempt=self._job.attempts,
            reason=str(reason),
        )
        await self._change(error_code=reason.code, error_detail=str(reason))

    async def _change(self, **values: Any) -> None:
        self._job = await self._jobs.change(self._job.job_id, **values)

    async def _finish(self, outcome: Stored | AttemptError, took_s: float) -> None:
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
        config = self._settings.destinations.get(self._job.destination)
        while True:
            try:
                if values["state"] == "failed" and config is not None:
                    await self._remove_leftover(
                        create_destination(config, self._settings.step_timeout_s)
                    )
                await self._change(**values)
                break
            except sqlite3.Error as error:
                # Report a result only once it is durable.
                log.warning("report_job_result_not_stored", job=self._job.job_id, error=str(error))
                await asyncio.sleep(_RETRY_S)
        self._log_result(took_s)

    def _log_result(self, took_s: float) -> None:
        job = self._job
        config = self._settings.destinations.get(job.destination)
        label = "unknown" if config is None else config.kind
        metrics.REPORT_JOB_SECONDS.labels(label, job.error_code or "done").observe(took_s)
        metrics.REPORT_BYTES.labels(label).inc(job.bytes_written)
        end = CANCELLED.code if job.error_code == CANCELLED.code else job.state
        metrics.REPORT_JOBS_ENDED.labels(label, end).inc()
        fields = {"job": job.job_id, "destination": job.destination, "attempts": job.attempts}
        if job.state == "done":
            log.info("report_delivered", file=job.name, rows=job.rows_total, **fields)
        else:
            log.warning("report_not_delivered", reason=job.error_detail, **fields)
