"""Fast encoder of report rows as CSV lines `user;segment;operation;datetime`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from segments.contracts.times import to_rfc3339
from segments.state.history.protocol import ReportRow

HEADER = b"user;segment;operation;datetime\n"
_NO_USER = b"00000000-0000-0000-0000-000000000000\n"
# Positions of the 32 hexadecimal digits of a user id in its canonical form.
_PLACES = (*range(8), *range(9, 13), *range(14, 18), *range(19, 23), *range(24, 36))
_SECOND = tuple(f"{second:02d}." for second in range(60))
_MILLISECOND = tuple(f"{millisecond:03d}" for millisecond in range(1000))
_SPAN_MS = 900_000


class _Span(NamedTuple):
    """A period in which the UTC offset of a time zone is constant."""

    from_ms: int
    to_ms: int
    offset_ms: int
    suffix: str


def lines(rows: Sequence[ReportRow], zone: tzinfo = UTC) -> bytes:
    """UTF-8 lines; instants are RFC 3339 with milliseconds in the given time zone.

    No cell needs quoting: ids, operations and segment names contain no `;`, quote or line end.
    """
    written: list[str] = []
    append, seconds, milliseconds = written.append, _SECOND, _MILLISECOND
    # Rows are ordered by instant: the prefix of a minute is formatted once for all its rows.
    span, minute, prefix = _Span(0, 0, 0, ""), -1, ""
    users = _canonical([row[0] for row in rows])
    for user, (_, segment, operation, at_ms) in zip(users, rows, strict=False):
        if not span.from_ms <= at_ms < span.to_ms:
            span = _span(at_ms, zone)
        local_ms = at_ms + span.offset_ms
        if local_ms // 60_000 != minute:
            minute = local_ms // 60_000
            prefix = to_rfc3339(minute * 60_000)[:17]
        append(
            f"{user};{segment};{operation};{prefix}{seconds[local_ms // 1000 % 60]}"
            f"{milliseconds[local_ms % 1000]}{span.suffix}\n"
        )
    return "".join(written).encode()


def _canonical(user_ids: Sequence[bytes]) -> list[str]:
    """The canonical form of each id, followed by an empty string.

    Strided slice assignments set one digit of all ids at once: twice as fast as id by id.
    """
    digits = b"".join(user_ids).hex().encode()
    written = bytearray(_NO_USER * len(user_ids))
    for number, place in enumerate(_PLACES):
        written[place :: len(_NO_USER)] = digits[number :: len(_PLACES)]
    return written.decode().split("\n")


def _span(at_ms: int, zone: tzinfo) -> _Span:
    """A span around an instant with a constant UTC offset."""
    if zone is UTC:
        return _Span(at_ms, 2**63, 0, "Z")
    from_ms = at_ms // _SPAN_MS * _SPAN_MS
    if _offset(from_ms, zone) == _offset(from_ms + _SPAN_MS, zone):
        return _Span(from_ms, from_ms + _SPAN_MS, *_offset(from_ms, zone))
    # The offset changes within the span (daylight saving time).
    return _Span(at_ms, at_ms + 1, *_offset(at_ms, zone))


def _offset(at_ms: int, zone: tzinfo) -> tuple[int, str]:
    """(UTC offset of a zone at an instant in ms, the same as text: `+01:00`)."""
    moment = datetime.fromtimestamp(at_ms // 1000, zone)
    ahead = moment.utcoffset()
    assert ahead is not None, "every zone of the time zone database has an offset"
    return round(ahead.total_seconds() * 1000), moment.isoformat()[19:]
