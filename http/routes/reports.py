"""/v1/reports: a link, and the CSV generated when it is opened (R1)."""

from __future__ import annotations

from typing import Annotated, Literal
from urllib.parse import urlencode

from aiohttp import web
from pydantic import AfterValidator, Field

from segments.contracts.names import SegmentName, UserId
from segments.contracts.responses.reports import ReportJob, ReportLink
from segments.contracts.times import to_rfc3339
from segments.http.auth.authorization import ADMISSION
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services, not_ready
from segments.http.problems import Problem
from segments.http.reports.rows import (
    ReportRequest,
    Wanted,
    chunks,
    complete_until,
    month_bounds,
    needed,
    opened,
    refuse_future,
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
    CSV,
    ELSEWHERE,
    FRESHNESS,
    HISTORY,
    STREAMS,
    Answer,
    Body,
    Received,
)
from segments.http.routing.query import Query
from segments.http.routing.routes import Routes
from segments.http.routing.streaming import require_chunks, stream
from segments.settings.reports import LINK
from segments.state.history.protocol import Report

routes = Routes("reports")


class NewReport(ReportRequest):
    """Body of POST /v1/reports."""

    destination: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=64,
            description="`link`, or the name of a destination; none = `reports.destination`",
        ),
    ] = None


def _a_zone(name: str) -> str:
    zone(name)
    return name


class ReportQuery(Query):
    """What of a month is wanted; the last two stand in a signed link."""

    timezone: Annotated[
        str,
        AfterValidator(_a_zone),
        Field(description="IANA name: where the month begins and ends, the offset of the instants"),
    ] = "UTC"
    segment: Annotated[SegmentName | None, Field(description="only rows of it")] = None
    user_id: Annotated[UserId | None, Field(description="only rows of this user")] = None
    operations: Annotated[
        Literal["changes", "all"],
        Field(description="additions and removals, or those of an end as well (`extend`)"),
    ] = "changes"
    header: Annotated[
        Literal["false", "true"], Field(description="a first line with the names of the columns")
    ] = "false"
    expires: Annotated[str | None, Field(description="of a signed link: until when, in s")] = None
    signature: Annotated[str | None, Field(description="of a signed link")] = None


@routes.post(
    "/v1/reports",
    role=Role.ANALYST,
    body=Body(
        NewReport,
        {"a month": {"month": "2026-11", "timezone": "Europe/Berlin", "header": True}},
    ),
    headers=(PREFER, MIN_POSITION, IDEMPOTENCY_KEY),
    answers={
        201: Answer("The link, in `Location` as well.", ReportLink, headers=("Location",)),
        202: Answer("The job; to be asked for at `Location`.", ReportJob, headers=("Location",)),
    },
    problems=((404, "month_in_future"), *report_jobs.PROBLEMS),
)
async def order(request: web.Request, body: Received[NewReport]) -> web.Response:
    """The link to a report, or a job that puts it at a destination.

    Behind a link nothing is generated before it is opened. The headers are for jobs alone: the same
    key gives the same job, and with a position the report has what was written up to it.
    """
    destination = body.model.destination or request.app[SERVICES].settings.reports.destination
    wanted = ReportRequest(**body.model.model_dump(exclude={"destination"}))
    refuse_future(wanted.wanted().from_ms)
    if destination != LINK:
        return await report_jobs.accept(request, wanted, destination)
    # A link needs none of these headers, but they are wrong for whatever is asked.
    requests.min_positions(request)
    command_id(request)
    return _link(request, wanted)


def _link(request: web.Request, wanted: ReportRequest) -> web.Response:
    query = {
        name: value
        for name, value in wanted.model_dump(exclude={"month", "header"}).items()
        if value is not None
    }
    if wanted.header:
        query["header"] = "true"
    base = requests.public_url(request, request.app[SERVICES].settings.http)
    path = f"/v1/reports/{wanted.month}.csv"
    if (signing := request.app[ADMISSION].links) is not None:
        query = signing.signed(path, query)
    url = base + path + (f"?{urlencode(query)}" if query else "")
    return requests.json_response({"url": url}, status=201, headers={"Location": url})


@routes.get(
    "/v1/reports/{month}.csv",
    role=Role.ANALYST,
    signed_link=True,
    query=ReportQuery,
    headers=(PREFER, MIN_POSITION),
    answers={
        200: Answer(
            "The rows, in the order of their instants. `Segments-Row-Count` lines follow (one more "
            "with `header`), or the connection is broken off.",
            media={CSV: "`user;segment;operation;datetime`"},
            headers=(ROW_COUNT, COMPLETE_UNTIL, "Content-Disposition", "Cache-Control"),
        ),
    },
    problems=((404, "month_in_future"), *ELSEWHERE, *FRESHNESS, *HISTORY, *STREAMS),
)
async def download(request: web.Request, query: ReportQuery) -> web.StreamResponse:
    """Every change of a month, complete or failing loudly.

    Made now, from one snapshot of the store: every row up to `Segments-Complete-Until`, which is
    the end of the month, or about now for the month that is running.
    """
    services = request.app[SERVICES]
    wanted = _wanted(request.match_info["month"], query)
    if services.settings.http.partitions is not None:
        raise Problem(421, "partition_elsewhere", "this sidecar does not know all partitions")
    if not services.view.complete:
        raise not_ready()
    require_chunks(request)
    complete_ms = await _complete_until(request, services, wanted.to_ms)
    with services.stream_slot():
        async with opened(services, wanted, complete_ms) as report:
            headers = _headers(request, report, min(wanted.to_ms, complete_ms))
            return await stream(request, headers, chunks(services, report, wanted))


async def _complete_until(request: web.Request, services: Services, end_ms: int) -> int:
    """The instant up to which every row is in the store: the end of the month, or about now.

    Problem 503 when it does not get there within the wait.
    """
    positions = requests.min_positions(request)
    left_s = await services.wait_for(positions, requests.preference(request).wait_s)
    return await complete_until(services, needed(services, end_ms, positions), left_s)


def _headers(request: web.Request, report: Report, to_ms: int) -> dict[str, str]:
    return {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{request.match_info["month"]}.csv"',
        ROW_COUNT: str(report.row_count),
        COMPLETE_UNTIL: to_rfc3339(to_ms),
        "Cache-Control": "no-store",
    }


def _wanted(month: str, query: ReportQuery) -> Wanted:
    """Problem 400 when it is no month, 404 when it has not begun."""
    in_zone = zone(query.timezone)
    try:
        from_ms, to_ms = month_bounds(month, in_zone)
    except ValueError as error:
        raise Problem(400, "invalid", str(error)) from None
    refuse_future(from_ms)
    return Wanted(
        from_ms=from_ms,
        to_ms=to_ms,
        zone=in_zone,
        segment=query.segment,
        user_id=query.user_id,
        with_extends=query.operations == "all",
        header=query.header == "true",
    )
