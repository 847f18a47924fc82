"""/v1/reports: links to reports, and the CSV that is generated when a link is opened."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from aiohttp import web
from pydantic import AfterValidator, Field

from segments.contracts.names import SegmentName, UserId
from segments.contracts.responses.reports import ReportJob, ReportLink
from segments.contracts.times import to_rfc3339
from segments.http.auth.authorization import AUTHORIZER
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services, not_ready
from segments.http.problems import Problem
from segments.http.reports.rows import (
    ReportFilter,
    ReportRequest,
    chunks,
    complete_until,
    month_bounds,
    open_report,
    require_past,
    watermark_target,
    zone,
)
from segments.http.routes import report_jobs, requests
from segments.http.routes.execute import command_id
from segments.http.routing.headers import (
    COMPLETE_UNTIL,
    IDEMPOTENCY_KEY,
    MIN_POSITION,
    PREFER,
    ROW_COUNT,
)
from segments.http.routing.operation import (
    CSV_TYPE,
    FRESHNESS_PROBLEMS,
    HISTORY_PROBLEMS,
    PARTITION_PROBLEMS,
    STREAM_PROBLEMS,
    JsonBody,
    ParsedBody,
    Response,
)
from segments.http.routing.query import Query
from segments.http.routing.routes import Routes
from segments.http.routing.streaming import require_chunked, stream
from segments.settings.reports import LINK
from segments.state.history.protocol import ReportSnapshot

routes = Routes("reports")


class NewReport(ReportRequest):
    """Body of POST /v1/reports."""

    destination: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=64,
            description="`link`, or the name of a destination; default: `reports.destination`",
        ),
    ] = None


def _valid_zone(name: str) -> str:
    zone(name)
    return name


class ReportQuery(Query):
    """Filters of a report; the last two parameters are those of a signed link."""

    timezone: Annotated[
        str,
        AfterValidator(_valid_zone),
        Field(description="IANA time zone: bounds of the month, and offset of the timestamps"),
    ] = "UTC"
    segment: Annotated[SegmentName | None, Field(description="only rows of this segment")] = None
    user_id: Annotated[UserId | None, Field(description="only rows of this user")] = None
    operations: Annotated[
        Literal["changes", "all"],
        Field(description="additions and removals, or also changes of the expiry (`extend`)"),
    ] = "changes"
    header: Annotated[
        Literal["false", "true"], Field(description="whether the first line has the column names")
    ] = "false"
    expires: Annotated[
        str | None, Field(description="of a signed link: expiry, in seconds since the epoch")
    ] = None
    signature: Annotated[str | None, Field(description="of a signed link")] = None


@routes.post(
    "/v1/reports",
    role=Role.ANALYST,
    body=JsonBody(
        NewReport,
        {"a month": {"month": "2026-11", "timezone": "Europe/Berlin", "header": True}},
    ),
    headers=(PREFER, MIN_POSITION, IDEMPOTENCY_KEY),
    responses={
        201: Response("The link, also in `Location`.", ReportLink, headers=("Location",)),
        202: Response("The job; get its progress at `Location`.", ReportJob, headers=("Location",)),
    },
    problems=((404, "month_in_future"), *report_jobs.PROBLEMS),
)
async def order(request: web.Request, body: ParsedBody[NewReport]) -> web.Response:
    """A link to a report, or a job that delivers it to a destination.

    The report behind a link is generated when the link is opened. The headers only matter for jobs:
    the same key gives the same job, and the report includes everything up to the position.
    """
    destination = body.model.destination or request.app[SERVICES].settings.reports.destination
    report = ReportRequest(**body.model.model_dump(exclude={"destination"}))
    require_past(report.report_filter().from_ms)
    if destination != LINK:
        return await report_jobs.accept(request, report, destination)
    # A link does not use these headers, but invalid ones are rejected all the same.
    requests.min_positions(request)
    command_id(request)
    return _link_response(request, report)


def _link_response(request: web.Request, report: ReportRequest) -> web.Response:
    query = {
        name: value
        for name, value in report.model_dump(exclude={"month", "header"}).items()
        if value is not None
    }
    if report.header:
        query["header"] = "true"
    base = requests.public_url(request, request.app[SERVICES].settings.http)
    path = f"/v1/reports/{report.month}.csv"
    if (links := request.app[AUTHORIZER].links) is not None:
        query = links.sign(path, query)
    url = base + path + (f"?{urlencode(query)}" if query else "")
    return requests.json_response({"url": url}, status=201, headers={"Location": url})


@routes.get(
    "/v1/reports/{month}.csv",
    role=Role.ANALYST,
    signed_link=True,
    query=ReportQuery,
    headers=(PREFER, MIN_POSITION),
    responses={
        200: Response(
            "The rows, ordered by timestamp. The body has `Segments-Row-Count` lines (one more "
            "with `header`), or the connection is aborted.",
            media={CSV_TYPE: "`user;segment;operation;datetime`"},
            headers=(ROW_COUNT, COMPLETE_UNTIL, "Content-Disposition", "Cache-Control"),
        ),
    },
    problems=(
        (404, "month_in_future"),
        *PARTITION_PROBLEMS,
        *FRESHNESS_PROBLEMS,
        *HISTORY_PROBLEMS,
        *STREAM_PROBLEMS,
    ),
)
async def download(request: web.Request, query: ReportQuery) -> web.StreamResponse:
    """Every change of a month, complete or with an error.

    Generated from one snapshot of the store: every row up to `Segments-Complete-Until`, the end of
    the month, or about now for the current month.
    """
    services = request.app[SERVICES]
    report_filter = _report_filter(request.match_info["month"], query)
    if services.settings.http.partitions is not None:
        raise Problem(421, "partition_elsewhere", "this sidecar does not serve all partitions")
    if not services.view.complete:
        raise not_ready()
    require_chunked(request)
    complete_ms = await _complete_until(request, services, report_filter.to_ms)
    with services.stream_slot():
        async with open_report(services, report_filter, complete_ms) as report:
            headers = _headers(request, report, min(report_filter.to_ms, complete_ms))
            return await stream(request, headers, chunks(services, report, report_filter))


async def _complete_until(request: web.Request, services: Services, end_ms: int) -> int:
    """Wait until the store is complete up to the end of the month, or about now; the time in ms.

    Problem 503 if it is not within the wait.
    """
    positions = requests.min_positions(request)
    left_s = await services.wait_for(positions, requests.preference(request).wait_s)
    return await complete_until(services, watermark_target(services, end_ms, positions), left_s)


def _headers(request: web.Request, report: ReportSnapshot, to_ms: int) -> dict[str, str]:
    return {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{request.match_info["month"]}.csv"',
        ROW_COUNT: str(report.row_count),
        COMPLETE_UNTIL: to_rfc3339(to_ms),
        "Cache-Control": "no-store",
    }


def _report_filter(month: str, query: ReportQuery) -> ReportFilter:
    """Problem 400 if it is not a month, 404 if it has not begun."""
    in_zone = zone(query.timezone)
    try:
        from_ms, to_ms = month_bounds(month, in_zone)
    except ValueError as error:
        raise Problem(400, "invalid", str(error)) from None
    require_past(from_ms)
    return ReportFilter(
        from_ms=from_ms,
        to_ms=to_ms,
        zone=in_zone,
        segment=query.segment,
        user_id=query.user_id,
        with_extends=query.operations == "all",
        header=query.header == "true",
    )
