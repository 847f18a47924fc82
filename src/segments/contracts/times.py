"""Timestamps and durations: RFC 3339 and ISO 8601 in JSON, integer milliseconds in the code."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

MAX_TTL_MS = 100 * 365 * 86_400_000 + 25 * 86_400_000
"""100 years of 365.25 days."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RFC3339 = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_DURATION = re.compile(
    r"P(?!$)(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?"
    r"(?:T(?!$)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d{1,3})?)S)?)?",
    re.ASCII,
)
# Years and months have no fixed length; in a time to live they count as 365 and 30 days.
_UNIT_MS = (365 * 86_400_000, 30 * 86_400_000, 7 * 86_400_000, 86_400_000, 3_600_000, 60_000)


# Precomputed parts of a timestamp's text: far cheaper than datetime.isoformat per record.
_MINUTE_OF_DAY = tuple(f"{minute // 60:02d}:{minute % 60:02d}:" for minute in range(1440))
_SECOND = tuple(f"{second:02d}." for second in range(60))
_MILLISECOND = tuple(f"{millisecond:03d}Z" for millisecond in range(1000))


def now_ms() -> int:
    """Wall-clock time (ms). The state machine never uses it: its time is the log's."""
    return time.time_ns() // 1_000_000


@lru_cache(maxsize=4096)
def _date_text(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()[:11]


def to_rfc3339(at_ms: int) -> str:
    """`1763900000123` -> `2025-11-23T12:13:20.123Z`."""
    second = at_ms // 1000
    return (
        f"{_date_text(second // 86_400)}{_MINUTE_OF_DAY[second // 60 % 1440]}"
        f"{_SECOND[second % 60]}{_MILLISECOND[at_ms % 1000]}"
    )


def from_rfc3339(text: str) -> int:
    """Milliseconds since the epoch; ValueError unless RFC 3339 with an offset.

    Fractions of a millisecond are truncated.
    """
    match = _RFC3339.fullmatch(text)
    if match is None:
        raise ValueError("a timestamp must be RFC 3339 with an offset, e.g. 2026-11-24T15:00:00Z")
    date, time, fraction, offset = match.groups()
    try:
        moment = datetime.fromisoformat(f"{date}T{time}{'+00:00' if offset in 'Zz' else offset}")
        seconds = int((moment - _EPOCH).total_seconds())
    except (ValueError, OverflowError):
        raise ValueError("no such date or time") from None
    return seconds * 1000 + int(((fraction or ".")[1:] + "000")[:3])


def duration_to_ms(value: Any) -> int:
    """ISO 8601 duration or seconds -> milliseconds; ValueError unless 1 ms to 100 years."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        # ValueError, since pydantic does not handle a TypeError of a validator.
        raise ValueError("a ttl must be an ISO 8601 duration or a number of seconds")  # noqa: TRY004
    milliseconds = _iso_duration_ms(value) if isinstance(value, str) else value * 1000
    if not 1 <= milliseconds <= MAX_TTL_MS:  # also false for NaN
        raise ValueError("a ttl must be between 1 ms and 100 years")
    return round(milliseconds)


def _iso_duration_ms(text: str) -> float:
    match = _DURATION.fullmatch(text) if len(text) <= 64 else None
    if match is None:
        raise ValueError("a ttl must be an ISO 8601 duration such as P7D or PT90S")
    *whole, seconds = match.groups()
    total = sum(int(part or 0) * unit for part, unit in zip(whole, _UNIT_MS, strict=True))
    return total + float(seconds or 0) * 1000


def _instant(value: Any) -> int:
    if not isinstance(value, str):
        raise ValueError("a timestamp must be an RFC 3339 string")  # noqa: TRY004 - as above
    return from_rfc3339(value)


_DIGITS = "[0-9]+"
_DURATION_PATTERN = (
    f"^P(?!$)({_DIGITS}Y)?({_DIGITS}M)?({_DIGITS}W)?({_DIGITS}D)?"
    rf"(T(?!$)({_DIGITS}H)?({_DIGITS}M)?({_DIGITS}(\.[0-9]{{1,3}})?S)?)?$"
)
_INSTANT_PATTERN = (
    "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})$"
)

InstantMs = Annotated[
    int,
    BeforeValidator(_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _INSTANT_PATTERN}),
]
"""RFC 3339 text in JSON, integer milliseconds in the model."""
TtlMs = Annotated[
    int,
    BeforeValidator(duration_to_ms),
    WithJsonSchema(
        {
            "description": "an ISO 8601 duration, or a number of seconds: 1 ms to 100 years",
            "anyOf": [
                {"type": "string", "maxLength": 64, "pattern": _DURATION_PATTERN},
                {"type": "number", "minimum": 0.001, "maximum": MAX_TTL_MS / 1000},
            ],
        }
    ),
]
"""ISO 8601 duration or seconds in JSON, integer milliseconds in the model."""
InstantText = Annotated[
    str,
    WithJsonSchema(
        {
            "type": "string",
            "format": "date-time",
            "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$",
            "description": "RFC 3339 in UTC with milliseconds",
        }
    ),
]
"""A timestamp in records the service writes. Not validated: no one else writes them."""
