"""One try of a job: the same rows as those behind a link, sent to a destination."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from segments.destinations.base import CLEANUP_S, Destination, DestinationError, File, Stored
from segments.destinations.upload import UploadProgress, send
from segments.http.context import Services
from segments.http.problems import Problem
from segments.http.read.watermark import behind
from segments.http.reports.file_names import most_bytes
from segments.http.reports.job_store import Job
from segments.http.reports.rows import Needed, Wanted, chunks, complete_until, opened
from segments.process.isolated_loop import run_isolated
from segments.state.history.protocol import HistoryUnavailableError
from segments.telemetry import logs

ASK_AGAIN_S = 1.0
"""How long it waits before it asks again whether the store has everything."""

log = logs.get(__name__)
Note = Callable[[int], Awaitable[None]]


class Trouble(Exception):  # noqa: N818 - not an error of ours
    """Why a try came to nothing; `lasting` when another one would, too."""

    def __init__(
        self, code: str, detail: str, *, lasting: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.lasting = lasting
        self.retry_after_s = retry_after_s


async def complete_ms(
    services: Services, job: Job, waits: Callable[[Trouble], Awaitable[None]]
) -> int:
    """The instant up to which the store has every row, late enough for this job.

    Waits until that is so; `waits` is told what for, once for each reason.
    """
    told = ""
    while True:
        try:
            if not services.view.complete:
                raise behind(None, job.wanted_ms)
            return await complete_until(
                services, Needed(job.wanted_ms, job.at_least_ms), wait_s=ASK_AGAIN_S
            )
        except Problem as problem:
            trouble = Trouble(problem.code, problem.detail)
        except HistoryUnavailableError as error:
            trouble = Trouble("history_unavailable", str(error))
        if told != trouble.code:
            told = trouble.code
            await waits(trouble)
        await asyncio.sleep(ASK_AGAIN_S)


async def attempt(
    services: Services,
    job: Job,
    wanted: Wanted,
    destination: Destination,
    progress: UploadProgress,
    *,
    counted: Note,
    remember: Callable[[str], Awaitable[None]],
) -> Stored:
    """Put the report of a job where it is to go. Trouble.

    Runs in an event loop of its own, `counted` and `remember` in that of the caller.
    """
    name, until_ms = job.name, job.complete_ms
    assert name is not None, "it was decided before the first try"
    assert until_ms is not None, "it was decided before the first try"
    home = asyncio.get_running_loop()

    async def at_home(said: Awaitable[None]) -> None:
        async def say() -> None:
            await said

        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(say(), home))

    async def work() -> Stored:
        async with opened(services, wanted, until_ms) as report:
            await at_home(counted(report.row_count))

            def check(sent: UploadProgress) -> None:
                lines = report.row_count + wanted.header
                if sent.rows != lines:
                    raise DestinationError("differs", f"{sent.rows} of {lines} lines were sent")

            return await send(
                destination,
                File(name, most_bytes(report.row_count)),
                chunks(services, report, wanted),
                progress,
                remember=lambda leftover: at_home(remember(leftover)),
                check=check,
                step_timeout_s=services.settings.reports.step_timeout_s,
            )

    # Cancelled while the file is being made final, it is there or not when that step has ended.
    end_s = services.settings.reports.step_timeout_s + 2 * CLEANUP_S
    try:
        return await run_isolated(work, "report", end_s=end_s)
    except DestinationError as error:
        raise Trouble(
            error.code, str(error), lasting=error.lasting, retry_after_s=error.retry_after_s
        ) from error
    except HistoryUnavailableError as error:
        raise Trouble("history_unavailable", str(error)) from error
    except Exception as error:
        log.exception("a report could not be put where it was to go", job=job.job_id)
        raise Trouble("internal", "an unexpected error; the log has it") from error


async def discard(destination: Destination, leftover: str) -> None:
    """Take away what an earlier try left; when that fails it is only logged."""

    async def work() -> None:
        async with asyncio.timeout(CLEANUP_S):
            await destination.discard(leftover)

    try:
        await run_isolated(work, "report")
    except Exception as error:  # noqa: BLE001 - the job can do without
        log.warning("what a report left behind is still there", error=type(error).__name__)
