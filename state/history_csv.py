"""Rows of a report as CSV lines `user;segment;operation;datetime`, fast enough for millions."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, tzinfo

from segments.state.history import ReportRow

HEADER = b"user;segment;operation;datetime\n"


def lines(rows: Iterable[ReportRow], zone: tzinfo = UTC) -> bytes:
    """UTF-8 lines; instants are RFC 3339 with milliseconds in the given time zone.

    No cell needs quoting: ids, operations and segment names contain no `;`, quote or line end.
    """
    written: list[str] = []
    append = written.append
    # Rows come in the order of their instants: many share a second, and its text is made once.
    second, prefix, suffix = None, "", ""
    for user_id, segment, operation, at_ms in rows:
        whole, millisecond = divmod(at_ms, 1000)
        if whole != second:
            second = whole
            prefix, suffix = _second(whole, zone)
        user = user_id.hex()
        append(
            f"{user[:8]}-{user[8:12]}-{user[12:16]}-{user[16:20]}-{user[20:]};{segment};"
            f"{operation};{prefix}.{millisecond:03d}{suffix}\n"
        )
    return "".join(written).encode()


def _second(second: int, zone: tzinfo) -> tuple[str, str]:
    text = datetime.fromtimestamp(second, zone).isoformat()
    return (text[:19], "Z") if zone is UTC else (text[:19], text[19:])
