"""Start and end of a month in a time zone, compared with local times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import hypothesis.strategies as st
import pytest
from hypothesis import example, given, settings

from segments.http.reports.rows import month_bounds, parse_month, zone

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
ZONES = sorted(available_timezones())


def local_time(at_ms: int, name: str) -> datetime:
    return (EPOCH + timedelta(milliseconds=at_ms)).astimezone(ZoneInfo(name))


def bounds(month: str, name: str) -> tuple[int, int]:
    return month_bounds(month, zone(name))


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(ZONES), st.integers(1970, 2099), st.integers(1, 12))
@example("America/St_Johns", 2009, 11)  # at 00:01 on the 1st it is 23:01 on the 31st once more
@example("Asia/Karachi", 2008, 11)  # at midnight before the 1st it is 23:00 once more
@example("America/Havana", 2020, 11)  # midnight comes twice on the 1st
@example("Asia/Amman", 1977, 10)  # the clocks go back as the month begins
@example("Africa/Cairo", 2010, 10)
@example("Asia/Kathmandu", 1986, 1)  # 00:00 does not exist: 15 minutes are left out
@example("Pacific/Kwajalein", 1993, 8)  # a day is left out
@example("Pacific/Apia", 2011, 12)
def test_a_month_begins_at_local_midnight_of_its_first_day(
    name: str, year: int, month: int
) -> None:
    first, following = bounds(f"{year:04}-{month:02}", name)
    there = local_time(first, name)
    assert (there.year, there.month, there.day) == (year, month, 1)
    before = local_time(first - 1, name)
    assert (before.year, before.month) == (year - (month == 1), (month - 2) % 12 + 1)
    after = local_time(following, name)
    assert (after.year, after.month, after.day) == (year + (month == 12), month % 12 + 1, 1)
    assert first < following


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(ZONES), st.integers(1970, 2060))
def test_months_follow_each_other(name: str, year: int) -> None:
    months = [f"{y:04}-{m:02}" for y in (year, year + 1) for m in range(1, 13)]
    found = [bounds(month, name) for month in months]
    assert [end for _, end in found[:-1]] == [begin for begin, _ in found[1:]]


@pytest.mark.parametrize(
    ("name", "month", "hours"),
    [
        ("Europe/Berlin", "2025-03", 31 * 24 - 1),
        ("Europe/Berlin", "2025-10", 31 * 24 + 1),
        ("America/Sao_Paulo", "2018-11", 30 * 24 - 1),
        ("America/Sao_Paulo", "2018-02", 28 * 24 + 1),
        ("Asia/Kolkata", "2025-03", 31 * 24),
        ("Australia/Lord_Howe", "2025-04", 30 * 24 + 0.5),
        ("UTC", "2024-02", 29 * 24),
    ],
)
def test_how_long_months_are(name: str, month: str, hours: float) -> None:
    first, following = bounds(month, name)
    assert following - first == hours * 3_600_000


@pytest.mark.parametrize("text", ["1970-01", "2026-12", "9998-12"])
def test_months(text: str) -> None:
    year, month = parse_month(text)
    assert f"{year:04}-{month:02}" == text
    first, following = month_bounds(text, UTC)
    assert first < following


@pytest.mark.parametrize(
    "text",
    [
        *("", "1969-12", "9999-01", "2026-00", "2026-13", "2026-1", "202-01", "2026-01-01"),
        *("2026/01", " 2026-01", "2026-01\n", "\u0662\u0660\u0662\u0666-01", "2026-0\u0661"),
    ],
)
def test_invalid_months(text: str) -> None:
    with pytest.raises(ValueError, match="a month is"):
        parse_month(text)


@pytest.mark.parametrize(
    "name",
    ["", "Mars", "Europe", "europe/berlin", "/etc/localtime", "../etc/passwd", "Europe/Berlin\0"],
)
def test_invalid_zones(name: str) -> None:
    with pytest.raises(ValueError, match="IANA"):
        zone(name)
