"""The names of reports as files: no two of them have one unless they have the same in them."""

from __future__ import annotations

import hashlib
import re

from segments.contracts.times import to_rfc3339
from segments.http.reports.rows import ReportRequest

LONGEST_LINE_BYTES = 640
"""A line of a report: two ids, a name of 128 characters, an operation, an instant."""
_OTHERS = re.compile(r"[^\w.-]")
_SHOWN_BYTES = 40
"""Of each filter: all of them together, and what is put around unfinished files, fit into 255."""
_SUM_LENGTH = 8


def file_name(request: ReportRequest, complete_ms: int, *, stable: bool) -> str:
    """`2026-11_until-20261125T014610.123Z.csv`, with each filter before the instant.

    What of a filter cannot stand in a name is replaced; a sum of all of them keeps names apart.
    Stable names have no instant.
    """
    filters = request.model_dump(exclude={"month"}, exclude_defaults=True, include=_FILTERS)
    parts = [request.month]
    parts += [_shown(name, value) for name, value in sorted(filters.items())]
    if filters:
        told = repr(sorted(filters.items())).encode()
        parts.append(hashlib.sha256(told).hexdigest()[:_SUM_LENGTH])
    if not stable:
        instant = to_rfc3339(complete_ms).replace("-", "").replace(":", "")
        parts.append(f"until-{instant}")
    return "_".join(parts) + ".csv"


def most_bytes(rows: int) -> int:
    """A report of so many rows is surely not longer than this."""
    return (rows + 1) * LONGEST_LINE_BYTES


_FILTERS = set(ReportRequest.model_fields)


def _shown(name: str, value: object) -> str:
    if value is True:
        return name
    beginning = str(value).encode()[:_SHOWN_BYTES].decode(errors="ignore")
    return f"{name}-{_OTHERS.sub('_', beginning)}"
