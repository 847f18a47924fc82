"""Contents of a report: its month and filters, the required watermark, and its rows as CSV.

Shared by reports that are downloaded and reports that a job delivers.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator

from segments.contracts import times
from segments.contracts.names import SegmentName, UserId
from segments.contracts.positions import Position
from segments.http.context import Services
from segments.http.problems import Problem
from segments.http.read.watermark import behind
from segments.state.history.protocol import ReportSnapshot
from segments.state.history.report_csv import HEADER, lines

_MONTH = re.compile(r"(\d{4})-(\d{2})", re.ASCII)


class ReportFilter(NamedTuple):
    """Which rows a report has: from_ms <= at < to_ms, and filters."""

    from_ms: int
    to_ms: int
    zone: tzinfo
    segment: str | None
    user_id: str | None
    with_extends: bool
    header: bool


class ReportRequest(BaseModel):
    """A month and filters, as requested by a client."""

    model_config = ConfigDict(extra="forbid")

    month: str
    timezone: str | None = None
    segment: SegmentName | None = None
    user_id: UserId | None = None
    operations: str | None = Field(None, pattern=r"^(changes|all)$")
    header: bool = False

    @field_validator("month")
    @classmethod
    def _check_month(cls, value: str) -> str:
        parse_month(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _check_zone(cls, value: str | None) -> str | None:
        if value is not None:
            zone(value)
        return value

    @staticmethod
    def stored(text: str) -> ReportRequest:
        """A stored request from its JSON; not validated, so that an outdated one can be shown."""
        return ReportRequest.model_construct(**orjson.loads(text))

    def report_filter(self) -> ReportFilter:
        """The requested rows. ValueError if the time zone no longer exists."""
        in_zone = zone(self.timezone or "UTC")
        from_ms, to_ms = month_bounds(self.month, in_zone)
        with_extends = self.operations == "all"
        return ReportFilter(
            from_ms, to_ms, in_zone, self.segment, self.user_id, with_extends, self.header
        )


class WatermarkTarget(NamedTuple):
    """Timestamps (ms) up to which the store should, and must at least, be complete."""

    target_ms: int
    minimum_ms: int


def watermark_target(
    services: Services, end_ms: int, positions: Sequence[Position]
) -> WatermarkTarget:
    """How complete the store must be for a report up to `end_ms` that is requested now.

    The view has reached `positions`: the report must include what was written up to them.
    """
    now_ms = times.now_ms()
    # Clocks differ: the shards use the broker's time, and ours may be ahead of it. There is no
    # tolerance if the report must include what was written up to a position.
    progress = services.view.progress
    written_ms = max((progress[p.partition].at_ms + 1 for p in positions), default=0)
    present_ms = max(now_ms, written_ms)
    lag_ms = 0 if positions else services.settings.http.ready_lag_ms
    return WatermarkTarget(min(end_ms, present_ms), min(end_ms, present_ms - lag_ms))


async def complete_until(services: Services, target: WatermarkTarget, wait_s: float) -> int:
    """The timestamp (ms) up to which the store has every row.

    Problem 503 if the target's minimum is not reached within the wait.
    """
    partitions = range(services.settings.partitions)
    complete_ms = await services.watermark.wait_until(partitions, target.target_ms, wait_s)
    if complete_ms is None or complete_ms < target.minimum_ms:
        raise behind(complete_ms, target.target_ms)
    return complete_ms


def open_report(
    services: Services, report_filter: ReportFilter, complete_ms: int
) -> AbstractAsyncContextManager[ReportSnapshot]:
    """The rows in one snapshot of the store, which is complete up to `complete_ms`."""
    return services.history.report(
        report_filter.from_ms,
        # Newer rows may be incomplete: they are left for a later report.
        min(report_filter.to_ms, complete_ms + 1),
        segment=report_filter.segment,
        user_id=report_filter.user_id,
        with_extends=report_filter.with_extends,
    )


async def chunks(
    services: Services, report: ReportSnapshot, report_filter: ReportFilter
) -> AsyncGenerator[bytes, None]:
    """The report as CSV; RuntimeError at the end if the number of rows is not the announced one."""
    loop = asyncio.get_running_loop()
    sent = 0
    if report_filter.header:
        yield HEADER
    async for batch in report.batches():
        yield await loop.run_in_executor(services.pool, lines, batch, report_filter.zone)
        sent += len(batch)
    if sent != report.row_count:
        raise RuntimeError(f"{sent} rows read, {report.row_count} announced")


def parse_month(text: str) -> tuple[int, int]:
    """`2026-11` -> (2026, 11); ValueError unless it is a month from 1970-01 to 9998-12."""
    match = _MONTH.fullmatch(text)
    if match is None or not (1970 <= int(match[1]) <= 9998 and 1 <= int(match[2]) <= 12):
        raise ValueError("a month is YYYY-MM, from 1970-01 to 9998-12")
    return int(match[1]), int(match[2])


def month_bounds(text: str, in_zone: tzinfo) -> tuple[int, int]:
    """Start of a month and of the next one in a time zone, in ms."""
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
    """The time zone with this IANA name; ValueError if there is none."""
    if name == "UTC":
        return UTC
    if name not in zone_names():
        raise ValueError("timezone is an IANA name such as Europe/Berlin")
    return ZoneInfo(name)


def require_past(from_ms: int) -> None:
    """Problem 404 for a month that begins in the future."""
    if from_ms > time.time() * 1000:
        raise Problem(404, "month_in_future", "the month has not begun")
