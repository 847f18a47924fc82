"""/v1/reports: a link, and the CSV generated when it is opened (R1)."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, available_timezones

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, field_validator

from segments.contracts.names import SegmentName, UserId, canonical_user_id, check_segment_name
from segments.contracts.times import to_rfc3339
from segments.http import requests
from segments.http.completeness import COMPLETE_UNTIL, behind
from segments.http.problems import Problem
from segments.http.services import SERVICES, Services, not_ready
from segments.http.streaming import require_chunks, stream
from segments.state.history import Report
from segments.state.history_csv import HEADER, lines

ROW_COUNT = "Segments-Row-Count"
_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)

routes = web.RouteTableDef()


class Wanted(NamedTuple):
    """What a report is about; instants in ms, the end is not part of it."""

    from_ms: int
    to_ms: int
    zone: tzinfo
    segment: str | None
    user_id: str | None
    with_extends: bool
    header: bool


class NewReport(BaseModel):
    """Body of POST /v1/reports."""

    model_config = ConfigDict(extra="forbid")

    month: str
    timezone: str | None = None
    segment: SegmentName | None = None
    user_id: UserId | None = None
    operations: str | None = Field(None, pattern=r"^(changes|all)$")
    header: bool = False

    @field_validator("month")
    @classmethod
    def _a_month(cls, value: str) -> str:
        parse_month(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _a_zone(cls, value: str | None) -> str | None:
        if value is not None:
            zone(value)
        return value


@routes.post("/v1/reports")
async def link(request: web.Request) -> web.Response:
    """The link to a report; nothing is generated before it is opened."""
    requests.only(request)
    wanted = await requests.body(request, NewReport)
    _refuse_future(wanted.month, zone(wanted.timezone or "UTC"))
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
        async with services.history.report(
            wanted.from_ms,
            # What is newer than that may be there in part: it is left for a later report.
            min(wanted.to_ms, complete_ms + 1),
            segment=wanted.segment,
            user_id=wanted.user_id,
            with_extends=wanted.with_extends,
        ) as report:
            headers = _headers(request, report, min(wanted.to_ms, complete_ms))
            return await stream(request, headers, _chunks(services, report, wanted))


async def _complete_until(request: web.Request, services: Services, end_ms: int) -> int:
    """The instant up to which every row is in the store: the end of the month, or about now.

    Problem 503 when it does not get there within the wait.
    """
    positions = requests.min_positions(request)
    left_s = await services.wait_for(positions, requests.preference(request).wait_s)
    now_ms = time.time_ns() // 1_000_000
    # Clocks differ a little: the shards' time is the broker's, ours may be ahead of it. Who wants
    # what a position wrote gets no such tolerance.
    progress = services.view.progress
    asked_ms = max((progress[p.partition].at_ms + 1 for p in positions), default=0)
    present_ms = max(now_ms, asked_ms)
    lag_ms = 0 if positions else services.settings.http.ready_lag_ms
    wanted_ms, tolerated_ms = min(end_ms, present_ms), min(end_ms, present_ms - lag_ms)
    partitions = range(services.settings.partitions)
    complete_ms = await services.completeness.reached(partitions, wanted_ms, left_s)
    if complete_ms is None or complete_ms < tolerated_ms:
        raise behind(complete_ms, wanted_ms)
    return complete_ms


def _headers(request: web.Request, report: Report, to_ms: int) -> dict[str, str]:
    return {
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": f'attachment; filename="{request.match_info["month"]}.csv"',
        ROW_COUNT: str(report.row_count),
        COMPLETE_UNTIL: to_rfc3339(to_ms),
        "Cache-Control": "no-store",
    }


async def _chunks(services: Services, report: Report, wanted: Wanted) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    sent = 0
    if wanted.header:
        yield HEADER
    async for batch in report.batches():
        yield await loop.run_in_executor(services.pool, lines, batch, wanted.zone)
        sent += len(batch)
    if sent != report.row_count:
        raise RuntimeError(f"{sent} rows found, {report.row_count} promised")


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
    _refuse_future(request.match_info["month"], in_zone)
    return Wanted(from_ms, to_ms, in_zone, segment, user_id, operations == "all", header == "true")


def _choice(query: Any, name: str, default: str, other: str) -> str:
    value: str = query.get(name, default)
    if value not in (default, other):
        raise ValueError(f"{name} is {default} or {other}")
    return value


def parse_month(text: str) -> tuple[int, int]:
    """`2026-11` -> (2026, 11); ValueError unless it is a month of the years 1970 to 9998."""
    match = _MONTH.fullmatch(text)
    if match is None or not (1970 <= int(match[1]) <= 9998 and 1 <= int(match[2]) <= 12):
        raise ValueError("a month is YYYY-MM, from 1970-01 to 9998-12")
    return int(match[1]), int(match[2])


def month_bounds(text: str, in_zone: tzinfo) -> tuple[int, int]:
    """First instant of a month and of the next one in a time zone, in ms."""
    year, month = parse_month(text)
    following = (year + month // 12, month % 12 + 1)
    first, last = (
        round(datetime(y, m, 1, tzinfo=in_zone).timestamp() * 1000)
        for y, m in ((year, month), following)
    )
    return first, last


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The IANA names of time zones."""
    return frozenset(available_timezones())


def zone(name: str) -> tzinfo:
    """The time zone of this IANA name; ValueError when there is none."""
    if name == "UTC":
        return UTC
    if name not in zone_names():
        raise ValueError("timezone is an IANA name such as Europe/Berlin")
    return ZoneInfo(name)


def _refuse_future(month: str, in_zone: tzinfo) -> None:
    if month_bounds(month, in_zone)[0] > time.time() * 1000:
        raise Problem(404, "month_in_future", "the month has not begun")
