"""/v1/reports/jobs: jobs that deliver reports to a destination."""

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
from segments.http.reports.rows import ReportRequest, watermark_target
from segments.http.reports.runner import JOB_RUNNER
from segments.http.routes import requests
from segments.http.routes.execute import command_id
from segments.http.routing.headers import IDEMPOTENCY_KEY, PREFER
from segments.http.routing.operation import ProblemType, Response
from segments.http.routing.query import CURSOR_SCHEMA, PageQuery, cursor_decoder
from segments.http.routing.routes import Routes
from segments.settings.reports import LINK

PATH = "/v1/reports/jobs"
PROBLEMS: tuple[ProblemType, ...] = (
    (421, "partition_elsewhere"),
    (422, "destination_unknown"),
    (422, "idempotency_key_reused"),
    (503, "stale"),
    (503, "busy"),
)
"""Problems of a request for a job, in addition to those of a request for a link."""

routes = Routes("reports")


class JobsQuery(PageQuery):
    """Which page of the jobs."""

    cursor: Annotated[list[Any] | None, BeforeValidator(cursor_decoder(int)), CURSOR_SCHEMA] = None


async def accept(request: web.Request, report: ReportRequest, destination: str) -> web.Response:
    """Create a job that delivers a report to a destination: 202 with the job."""
    services = request.app[SERVICES]
    settings = services.settings
    if destination not in settings.reports.destinations:
        known = ", ".join([LINK, *sorted(settings.reports.destinations)])
        raise Problem(422, "destination_unknown", f"the destinations are: {known}")
    if settings.http.partitions is not None:
        raise Problem(421, "partition_elsewhere", "this sidecar does not serve all partitions")
    key = command_id(request) if IDEMPOTENCY_KEY in request.headers else None
    positions = requests.min_positions(request)
    await services.wait_for(positions, requests.preference(request).wait_s)
    target = watermark_target(services, report.report_filter().to_ms, positions)
    job = await request.app[JOB_RUNNER].submit(report, destination, key, target)
    headers = {"Location": requests.location(PATH, job.job_id)}
    return requests.json_response(job_body(job), status=202, headers=headers)


@routes.get(
    PATH,
    role=Role.ANALYST,
    query=JobsQuery,
    responses={200: Response("A page of jobs.", ReportJobPage, optional_headers=("Link",))},
)
async def jobs(request: web.Request, query: JobsQuery) -> web.Response:
    """Jobs in progress and finished jobs, newest first."""
    before = None if query.cursor is None else query.cursor[0]
    found = await request.app[JOB_RUNNER].newest(query.limit + 1, before)
    page, more = found[: query.limit], len(found) > query.limit
    place = [page[-1].number] if more else None
    return requests.page(request, [job_body(job) for job in page], place)


@routes.get(
    f"{PATH}/{{job_id}}",
    role=Role.ANALYST,
    headers=(PREFER,),
    responses={200: Response("The job.", ReportJob)},
    problems=((404, "job_unknown"), (503, "busy")),
)
async def job(request: web.Request) -> web.Response:
    """The progress of a job; `Prefer: wait` waits until it has finished.

    Responds at once without `Prefer`.
    """
    wait_s = requests.preference(request).wait_s if PREFER in request.headers else 0.0
    found = await request.app[JOB_RUNNER].get(request.match_info["job_id"], wait_s)
    return requests.json_response(job_body(_require(found)))


@routes.delete(
    f"{PATH}/{{job_id}}",
    role=Role.ADMIN,
    responses={200: Response("The job after the cancellation.", ReportJob)},
    problems=((404, "job_unknown"),),
)
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job: its state becomes `failed`, with the error `cancelled`.

    It becomes `done` if its file was just being finalized. A finished job does not change.
    """
    found = await request.app[JOB_RUNNER].cancel(request.match_info["job_id"])
    return requests.json_response(job_body(_require(found)))


def _require(found: Job | None) -> Job:
    if found is None:
        raise Problem(404, "job_unknown", "this sidecar does not have the job, or no longer has it")
    return found


def job_body(job: Job) -> dict[str, Any]:
    """The response body of a job."""
    report = ReportRequest.stored(job.request)
    error = None
    if job.error_code is not None:
        error = {"code": job.error_code, "detail": job.error_detail}
    return {
        "job_id": job.job_id,
        "state": job.state,
        "destination": job.destination,
        **report.model_dump(),
        "created_at": to_rfc3339(job.created_ms),
        "started_at": _rfc3339(job.started_ms),
        "finished_at": _rfc3339(job.finished_ms),
        "attempts": job.attempts,
        "complete_until": _rfc3339(job.complete_ms),
        "name": job.name,
        "rows_total": job.rows_total,
        "rows_written": job.rows_written,
        "bytes_written": job.bytes_written,
        "url": job.url,
        "url_expires_at": _rfc3339(job.url_expires_ms),
        "error": error,
    }


def _rfc3339(at_ms: int | None) -> str | None:
    return None if at_ms is None else to_rfc3339(at_ms)
