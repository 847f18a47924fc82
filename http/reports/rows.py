"""What a report has in it: its month and filters, up to which instant, and its rows as CSV.

The same for a report that is opened by its link and for one that a job puts somewhere.
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


class Wanted(NamedTuple):
    """What a report is about; instants in ms, the end is not part of it."""

    from_ms: int
    to_ms: int
    zone: tzinfo
    segment: str | None
    user_id: str | None
    with_extends: bool
    header: bool


class ReportRequest(BaseModel):
    """A month and what is wanted of it."""

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

    @staticmethod
    def kept(text: str) -> ReportRequest:
        """What was asked for once, from its JSON; what is not understood any more can be told."""
        return ReportRequest.model_construct(**orjson.loads(text))

    def wanted(self) -> Wanted:
        """The rows that this asks for. ValueError for a time zone that is there no more."""
        in_zone = zone(self.timezone or "UTC")
        from_ms, to_ms = month_bounds(self.month, in_zone)
        with_extends = self.operations == "all"
        return Wanted(
            from_ms, to_ms, in_zone, self.segment, self.user_id, with_extends, self.header
        )


class Needed(NamedTuple):
    """Instants (ms) up to which the store should, and must at least, be complete."""

    wanted_ms: int
    at_least_ms: int


def needed(services: Services, end_ms: int, positions: Sequence[Position]) -> Needed:
    """What a report with this end, asked for now, needs of the store.

    `positions` have been reached by the view: who wrote them wants their rows.
    """
    now_ms = times.now_ms()
    # Clocks differ a little: the shards' time is the broker's, ours may be ahead of it. Who wants
    # what a position wrote gets no such tolerance.
    progress = services.view.progress
    asked_ms = max((progress[p.partition].at_ms + 1 for p in positions), default=0)
    present_ms = max(now_ms, asked_ms)
    lag_ms = 0 if positions else services.settings.http.ready_lag_ms
    return Needed(min(end_ms, present_ms), min(end_ms, present_ms - lag_ms))


async def complete_until(services: Services, wanted: Needed, wait_s: float) -> int:
    """The instant (ms) up to which every row is in the store.

    Problem 503 when it does not get there within the wait.
    """
    partitions = range(services.settings.partitions)
    complete_ms = await services.completeness.reached(partitions, wanted.wanted_ms, wait_s)
    if complete_ms is None or complete_ms < wanted.at_least_ms:
        raise behind(complete_ms, wanted.wanted_ms)
    return complete_ms


def opened(
    services: Services, wanted: Wanted, complete_ms: int
) -> AbstractAsyncContextManager[ReportSnapshot]:
    """The rows from one snapshot of the store, which is complete up to this instant."""
    return services.history.report(
        wanted.from_ms,
        # What is newer than that may be there in part: it is left for a later report.
        min(wanted.to_ms, complete_ms + 1),
        segment=wanted.segment,
        user_id=wanted.user_id,
        with_extends=wanted.with_extends,
    )


async def chunks(
    services: Services, report: ReportSnapshot, wanted: Wanted
) -> AsyncGenerator[bytes, None]:
    """The report as CSV; RuntimeError at the end when it has not as many rows as promised."""
    loop = asyncio.get_running_loop()
    sent = 0
    if wanted.header:
        yield HEADER
    async for batch in report.batches():
        yield await loop.run_in_executor(services.pool, lines, batch, wanted.zone)
        sent += len(batch)
    if sent != report.row_count:
        raise RuntimeError(f"{sent} rows found, {report.row_count} promised")


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


def refuse_future(from_ms: int) -> None:
    """Problem 404 for a month that begins in the future."""
    if from_ms > time.time() * 1000:
        raise Problem(404, "month_in_future", "the month has not begun")
