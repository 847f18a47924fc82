"""/v1/reports: a link, and the CSV generated when it is opened (R1)."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from aiohttp import web

from segments.contracts.names import canonical_user_id, check_segment_name
from segments.contracts.times import to_rfc3339
from segments.http import requests
from segments.http.completeness import COMPLETE_UNTIL
from segments.http.problems import Problem
from segments.http.report_rows import (
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
from segments.http.services import SERVICES, Services, not_ready
from segments.http.streaming import require_chunks, stream
from segments.state.history import Report

ROW_COUNT = "Segments-Row-Count"

routes = web.RouteTableDef()


class NewReport(ReportRequest):
    """Body of POST /v1/reports."""


@routes.post("/v1/reports")
async def link(request: web.Request) -> web.Response:
    """The link to a report; nothing is generated before it is opened."""
    requests.only(request)
    wanted = await requests.body(request, NewReport)
    refuse_future(wanted.wanted().from_ms)
    query = {
        name: value
        for name, value in wanted.model_dump(exclude={"month", "header"}).items()
        if value is not None
    }
    if wanted.header:
        query["header"] = "true"
    base = requests.public_url(request, request.app[SERVICES].settings.http)
    url = f"{base}/v1/reports/{wanted.month}.csv" + (f"?{urlencode(query)}" if query else "")
    return requests.json_response({"url": url}, status=201, headers={"Location": url})


@routes.get("/v1/reports/{month}.csv")
async def download(request: web.Request) -> web.StreamResponse:
    """Every change of a month, complete or failing loudly."""
    services = request.app[SERVICES]
    wanted = _wanted(request)
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


def _wanted(request: web.Request) -> Wanted:
    requests.only(request, "timezone", "segment", "user_id", "operations", "header")
    query = request.query
    try:
        in_zone = zone(query.get("timezone", "UTC"))
        from_ms, to_ms = month_bounds(request.match_info["month"], in_zone)
        segment = None if "segment" not in query else check_segment_name(query["segment"])
        user_id = None if "user_id" not in query else canonical_user_id(query["user_id"])
        operations = _choice(query, "operations", "changes", "all")
        header = _choice(query, "header", "false", "true")
    except ValueError as error:
        raise Problem(400, "invalid", str(error)) from None
    refuse_future(from_ms)
    return Wanted(from_ms, to_ms, in_zone, segment, user_id, operations == "all", header == "true")


def _choice(query: Any, name: str, default: str, other: str) -> str:
    value: str = query.get(name, default)
    if value not in (default, other):
        raise ValueError(f"{name} is {default} or {other}")
    return value
