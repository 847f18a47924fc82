"""File names of reports: different for different reports, and portable."""

from __future__ import annotations

import itertools
import re
from typing import Any

from segments.destinations.base import link, part_name
from segments.http.reports.file_names import LINE_MAX_LENGTH_BYTES, file_name
from segments.http.reports.rows import ReportRequest
from segments.state.history.report_csv import lines

USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
AT_MS = 1_795_558_666_123
CHOICES: dict[str, list[Any]] = {
    "month": ["2025-02", "2025-03"],
    "timezone": [None, "America/Argentina/ComodRivadavia"],
    "segment": [None, "a:b", "a_b", "Москва", "x" * 128, "x" * 127 + "y", "𐐀" * 128],
    "user_id": [None, USER],
    "operations": [None, "all"],
    "header": [False, True],
}


def test_different_reports_have_different_names() -> None:
    requests = [
        ReportRequest(**dict(zip(CHOICES, chosen, strict=True)))
        for chosen in itertools.product(*CHOICES.values())
    ]
    for stable in (False, True):
        names = {file_name(request, AT_MS, stable=stable) for request in requests}
        assert len(names) == len(requests)
        for name in names:
            assert re.fullmatch(r"2025-0[23][\w.-]*\.csv", name), name
            assert len(part_name(name).encode()) <= 255


def test_a_name_describes_its_report() -> None:
    request = ReportRequest(month="2026-11", segment="beta", header=True)
    name = file_name(request, AT_MS, stable=False)
    assert re.fullmatch(
        r"2026-11_header_segment-beta_[0-9a-f]{8}_until-20261124T221746\.123Z\.csv", name
    )
    assert file_name(ReportRequest(month="2026-11"), AT_MS, stable=True) == "2026-11.csv"


def test_the_longest_line_is_no_longer() -> None:
    longest = lines([(b"\0" * 16, "\U0001d518" * 128, "remove", AT_MS)])
    assert len(longest) <= LINE_MAX_LENGTH_BYTES


def test_links() -> None:
    assert link("https://x/{name}?a=1", "a b.csv") == "https://x/a%20b.csv?a=1"
    assert link("https://x/y/", "a.csv") == "https://x/y/a.csv"
