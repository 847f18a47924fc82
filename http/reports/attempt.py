"""One attempt of a job: uploads the rows of a report to a destination."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from segments.destinations.base import CLEANUP_S, Destination, DestinationError, File, Stored
from segments.destinations.upload import UploadProgress, send
from segments.http.context import Services
from segments.http.problems import Problem
from segments.http.read.watermark import behind
from segments.http.reports.file_names import max_size_bytes
from segments.http.reports.job_store import Job
from segments.http.reports.rows import (
    ReportFilter,
    WatermarkTarget,
    chunks,
    complete_until,
    open_report,
)
from segments.process.isolated_loop import run_isolated
from segments.state.history.protocol import HistoryUnavailableError
from segments.telemetry import logs

WATERMARK_POLL_S = 1.0
"""How often it checks whether the store is complete enough."""

log = logs.get(__name__)


class AttemptError(Exception):
    """An attempt failed; `permanent` if another attempt would fail too."""

    def __init__(
        self, code: str, detail: str, *, permanent: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.permanent = permanent
        self.retry_after_s = retry_after_s


async def complete_ms(
    services: Services, job: Job, on_wait: Callable[[AttemptError], Awaitable[None]]
) -> int:
    """Wait until the store is complete enough for this job; the watermark in ms.

    Calls `on_wait` once for each reason to wait.
    """
    last_code = ""
    while True:
        try:
            if not services.view.complete:
                raise behind(None, job.wanted_ms)
            return await complete_until(
                services, WatermarkTarget(job.wanted_ms, job.at_least_ms), wait_s=WATERMARK_POLL_S
            )
        except Problem as problem:
            reason = AttemptError(problem.code, problem.detail)
        except HistoryUnavailableError as error:
            reason = AttemptError("history_unavailable", str(error))
        if last_code != reason.code:
            last_code = reason.code
            await on_wait(reason)
        await asyncio.sleep(WATERMARK_POLL_S)


async def attempt(
    services: Services,
    job: Job,
    report_filter: ReportFilter,
    destination: Destination,
    progress: UploadProgress,
    *,
    on_row_count: Callable[[int], Awaitable[None]],
    remember: Callable[[str], Awaitable[None]],
) -> Stored:
    """Upload the report of a job to its destination. AttemptError if that fails.

    Runs in an event loop of its own; `on_row_count` and `remember` run in that of the caller.
    """
    name, until_ms = job.name, job.complete_ms
    assert name is not None, "set before the first attempt"
    assert until_ms is not None, "set before the first attempt"
    main_loop = asyncio.get_running_loop()

    async def call_in_main_loop(awaitable: Awaitable[None]) -> None:
        async def call() -> None:
            await awaitable

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(call(), main_loop))

    async def work() -> Stored:
        async with open_report(services, report_filter, until_ms) as report:
            await call_in_main_loop(on_row_count(report.row_count))

            def check(sent: UploadProgress) -> None:
                lines = report.row_count + report_filter.header
                if sent.rows != lines:
                    raise DestinationError("differs", f"{sent.rows} of {lines} lines were uploaded")

            return await send(
                destination,
                File(name, max_size_bytes(report.row_count)),
                chunks(services, report, report_filter),
                progress,
                remember=lambda leftover: call_in_main_loop(remember(leftover)),
                check=check,
                step_timeout_s=services.settings.reports.step_timeout_s,
            )

    # If cancelled while the file is being finalized, that step is completed first.
    end_s = services.settings.reports.step_timeout_s + 2 * CLEANUP_S
    try:
        return await run_isolated(work, "report", end_s=end_s)
    except DestinationError as error:
        raise AttemptError(
            error.code, str(error), permanent=error.lasting, retry_after_s=error.retry_after_s
        ) from error
    except HistoryUnavailableError as error:
        raise AttemptError("history_unavailable", str(error)) from error
    except Exception as error:
        log.exception("report_attempt_failed", job=job.job_id)
        raise AttemptError("internal", "an unexpected error; the log has the details") from error


async def discard(destination: Destination, leftover: str) -> None:
    """Remove what an earlier attempt left at the destination; a failure is only logged."""

    async def work() -> None:
        async with asyncio.timeout(CLEANUP_S):
            await destination.discard(leftover)

    try:
        await run_isolated(work, "report")
    except Exception as error:  # noqa: BLE001 - the job does not depend on it
        log.warning("report_leftover_not_removed", error=type(error).__name__)
