"""/v1/reports/jobs: reports on their way to a destination (R2)."""

from __future__ import annotations

from typing import Annotated, Any

from aiohttp import web
from pydantic import BeforeValidator

from segments.contracts.responses.reports import ReportJob, ReportJobPage
from segments.contracts.times import to_rfc3339
from segments.http.auth.roles import Role
from segments.http.context import SERVICES
from segments.http.problems import Problem
from segments.http.reports.job_store import Job
from segments.http.reports.rows import ReportRequest, needed
from segments.http.reports.runner import RUNNER
from segments.http.routes import requests
from segments.http.routes.execute import command_id
from segments.http.routing.headers import IDEMPOTENCY_KEY, PREFER
from segments.http.routing.operation import Answer, Kind
from segments.http.routing.query import OPAQUE, Page, place_of
from segments.http.routing.routes import Routes
from segments.settings.reports import LINK

PATH = "/v1/reports/jobs"
PROBLEMS: tuple[Kind, ...] = (
    (421, "partition_elsewhere"),
    (422, "destination_unknown"),
    (422, "idempotency_key_reused"),
    (503, "stale"),
    (503, "busy"),
)
"""Of a request for a job, beside those of one for a link."""

routes = Routes("reports")


class JobPage(Page):
    """Which page of the jobs."""

    cursor: Annotated[list[Any] | None, BeforeValidator(place_of(int)), OPAQUE] = None


async def accept(request: web.Request, wanted: ReportRequest, destination: str) -> web.Response:
    """202 with the job that puts a report at a destination, or the problem."""
    services = request.app[SERVICES]
    settings = services.settings
    if destination not in settings.reports.destinations:
        known = ", ".join([LINK, *sorted(settings.reports.destinations)])
        raise Problem(422, "destination_unknown", f"the destinations are: {known}")
    if settings.http.partitions is not None:
        raise Problem(421, "partition_elsewhere", "this sidecar does not know all partitions")
    key = command_id(request) if IDEMPOTENCY_KEY in request.headers else None
    positions = requests.min_positions(request)
    await services.wait_for(positions, requests.preference(request).wait_s)
    needs = needed(services, wanted.wanted().to_ms, positions)
    job = await request.app[RUNNER].submit(wanted, destination, key, needs)
    headers = {"Location": requests.location(PATH, job.job_id)}
    return requests.json_response(shown(job), status=202, headers=headers)


@routes.get(
    PATH,
    role=Role.ANALYST,
    query=JobPage,
    answers={200: Answer("A page of jobs.", ReportJobPage, maybe=("Link",))},
)
async def jobs(request: web.Request, query: JobPage) -> web.Response:
    """Reports on their way to a destination, and those that have ended, newest first."""
    before = None if query.cursor is None else query.cursor[0]
    found = await request.app[RUNNER].newest(query.limit + 1, before)
    page, more = found[: query.limit], len(found) > query.limit
    place = [page[-1].number] if more else None
    return requests.page(request, [shown(job) for job in page], place)


@routes.get(
    f"{PATH}/{{job_id}}",
    role=Role.ANALYST,
    headers=(PREFER,),
    answers={200: Answer("The job.", ReportJob)},
    problems=((404, "job_unknown"), (503, "busy")),
)
async def job(request: web.Request) -> web.Response:
    """How far a report is on its way; with `Prefer: wait` once it has ended.

    Without `Prefer` nothing is waited for.
    """
    wait_s = requests.preference(request).wait_s if PREFER in request.headers else 0.0
    found = await request.app[RUNNER].get(request.match_info["job_id"], wait_s)
    return requests.json_response(shown(_known(found)))


@routes.delete(
    f"{PATH}/{{job_id}}",
    role=Role.ADMIN,
    answers={200: Answer("The job as it is then.", ReportJob)},
    problems=((404, "job_unknown"),),
)
async def cancel(request: web.Request) -> web.Response:
    """End a job that has not ended: `failed`, with the error `cancelled`.

    It is `done` when its file was being made final. One that has ended stays as it is.
    """
    found = await request.app[RUNNER].cancel(request.match_info["job_id"])
    return requests.json_response(shown(_known(found)))


def _known(found: Job | None) -> Job:
    if found is None:
        raise Problem(404, "job_unknown", "this sidecar has no such job, or no longer")
    return found


def shown(job: Job) -> dict[str, Any]:
    """A job as it is told."""
    wanted = ReportRequest.kept(job.request)
    error = None
    if job.error_code is not None:
        error = {"code": job.error_code, "detail": job.error_detail}
    return {
        "job_id": job.job_id,
        "state": job.state,
        "destination": job.destination,
        **wanted.model_dump(),
        "created_at": to_rfc3339(job.created_ms),
        "started_at": _instant(job.started_ms),
        "finished_at": _instant(job.finished_ms),
        "attempts": job.attempts,
        "complete_until": _instant(job.complete_ms),
        "name": job.name,
        "rows_total": job.rows_total,
        "rows_written": job.rows_written,
        "bytes_written": job.bytes_written,
        "url": job.url,
        "url_expires_at": _instant(job.url_expires_ms),
        "error": error,
    }


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else to_rfc3339(at_ms)
