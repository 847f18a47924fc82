"""File names of reports: reports with different contents have different names."""

from __future__ import annotations

import hashlib
import re

from segments.contracts.times import to_rfc3339
from segments.http.reports.rows import ReportRequest

LINE_MAX_LENGTH_BYTES = 640
"""A line of a report: two ids, a name of 128 characters, an operation, a timestamp."""
_NOT_ALLOWED = re.compile(r"[^\w.-]")
_FILTER_MAX_BYTES = 40
"""Of each filter, so that the name, also of a temporary file, has at most 255 bytes."""
_HASH_LENGTH = 8


def file_name(request: ReportRequest, complete_ms: int, *, stable: bool) -> str:
    """`2026-11_until-20261125T014610.123Z.csv`, with each filter before the timestamp.

    Characters of filters that a file name cannot have are replaced; a hash of all filters keeps the
    names distinct. Stable names have no timestamp.
    """
    filters = request.model_dump(exclude={"month"}, exclude_defaults=True, include=_FILTERS)
    parts = [request.month]
    parts += [_filter_part(name, value) for name, value in sorted(filters.items())]
    if filters:
        canonical = repr(sorted(filters.items())).encode()
        parts.append(hashlib.sha256(canonical).hexdigest()[:_HASH_LENGTH])
    if not stable:
        instant = to_rfc3339(complete_ms).replace("-", "").replace(":", "")
        parts.append(f"until-{instant}")
    return "_".join(parts) + ".csv"


def max_size_bytes(rows: int) -> int:
    """An upper bound of the size of a report with so many rows."""
    return (rows + 1) * LINE_MAX_LENGTH_BYTES


_FILTERS = set(ReportRequest.model_fields)


def _filter_part(name: str, value: object) -> str:
    if value is True:
        return name
    beginning = str(value).encode()[:_FILTER_MAX_BYTES].decode(errors="ignore")
    return f"{name}-{_NOT_ALLOWED.sub('_', beginning)}"
