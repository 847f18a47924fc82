"""Parsing of timestamps and durations, including edge cases."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.contracts.times import MAX_TTL_MS, duration_to_ms, from_rfc3339, to_rfc3339

DAY_MS = 86_400_000


@pytest.mark.parametrize(
    ("text", "at_ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2026-11-24T06:00:00.123Z", 1_795_500_000_123),
        ("2026-11-24T09:00:00.123+03:00", 1_795_500_000_123),
        ("2026-11-23T22:30:00.123-07:30", 1_795_500_000_123),
        ("2026-11-24T06:00:00.1Z", 1_795_500_000_100),
        ("2026-11-24T06:00:00.123999999Z", 1_795_500_000_123),
        ("2026-11-24t06:00:00z", 1_795_500_000_000),
        ("2024-02-29T00:00:00-00:00", 1_709_164_800_000),
        ("9999-12-31T23:59:59.999Z", 253_402_300_799_999),
    ],
)
def test_timestamp_is_parsed_with_milliseconds_and_offset(text: str, at_ms: int) -> None:
    assert from_rfc3339(text) == at_ms


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "1795500000",
        "2026-11-24",
        "2026-11-24T06:00:00",
        "2026-11-24 06:00:00Z",
        "2026-11-24T06:00Z",
        "2026-11-24T06:00:00.Z",
        "2026-11-24T06:00:00,5Z",
        "2026-11-24T06:00:00.1234567890Z",
        "2026-11-24T06:00:00+3",
        "2026-11-24T06:00:00+0300",
        "2026-11-24T06:00:00+24:00",
        "2026-11-24T24:00:00Z",
        "2026-11-24T06:60:00Z",
        "2026-02-29T06:00:00Z",
        "2026-13-01T06:00:00Z",
        "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59Z",
        "٢٠٢٦-11-24T06:00:00Z",
        " 2026-11-24T06:00:00Z",
        "2026-11-24T06:00:00Z\n",
    ],
)
def test_invalid_timestamps_are_rejected(text: str) -> None:
    with pytest.raises(ValueError, match=r"timestamp|no such date or time"):
        from_rfc3339(text)


@given(
    st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)),  # noqa: DTZ001 - the zone is added below
    st.integers(-23 * 60, 23 * 60),
)
def test_timestamp_is_independent_of_the_offset(moment: datetime, offset_minutes: int) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    at_ms = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    there = moment.astimezone(timezone(timedelta(minutes=offset_minutes)))
    assert from_rfc3339(there.isoformat(timespec="milliseconds")) == at_ms
    assert from_rfc3339(to_rfc3339(at_ms)) == at_ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        (1, 1_000),
        (0.001, 1),
        (2.5, 2_500),
        (0.29, 290),
        ("PT0.001S", 1),
        ("PT90S", 90_000),
        ("PT1M30.5S", 90_500),
        ("PT2H", 7_200_000),
        ("P7D", 7 * DAY_MS),
        ("P2W", 14 * DAY_MS),
        ("P1M", 30 * DAY_MS),
        ("P1Y", 365 * DAY_MS),
        ("P1Y2M3W4DT5H6M7S", (365 + 60 + 21 + 4) * DAY_MS + 18_367_000),
        ("P100Y", 36_500 * DAY_MS),
        ("P36525D", MAX_TTL_MS),
        (MAX_TTL_MS // 1000, MAX_TTL_MS),
    ],
)
def test_duration_is_converted_to_milliseconds(value: object, ms: int) -> None:
    assert duration_to_ms(value) == ms


@pytest.mark.parametrize(
    "value",
    [
        0,
        0.0,
        -0.0,
        0.0004,
        -1,
        -0.001,
        math.nan,
        math.inf,
        -math.inf,
        1e308,
        10**400,
        MAX_TTL_MS // 1000 + 1,
        "PT0S",
        "P0D",
        "PT0.0001S",
        "P101Y",
        "P36525DT0.001S",
        "P" + "9" * 60 + "Y",
        "-P1D",
        "P-1D",
        "P",
        "PT",
        "P1DT",
        "1D",
        "P1S",
        "PT1.5H",
        "PT1,5S",
        "P1D ",
        "P1D\n",
        "p1d",
        "P\N{ARABIC-INDIC DIGIT ONE}D",
        "90",
        "",
        "P1Y" * 30,
        True,
        None,
        [],
        {},
    ],
)
def test_invalid_ttls_are_rejected(value: object) -> None:
    with pytest.raises(ValueError, match="a ttl"):
        duration_to_ms(value)


@given(st.integers(1, MAX_TTL_MS))
def test_seconds_and_iso_durations_are_equivalent(ms: int) -> None:
    assert duration_to_ms(f"PT{ms // 1000}.{ms % 1000:03d}S") == ms
    assert duration_to_ms(ms / 1000) == ms
