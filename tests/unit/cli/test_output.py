"""Formatting of durations, times, tables and rules."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta

import pytest

from segments.cli import output
from segments.cli.rule_options import format_rule
from segments.client.models import AssignedRule


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (1, "1 s"),
        (90, "1 min 30 s"),
        (3_600, "1 h"),
        (86_400 * 7, "7 d"),
        (86_400 * 6 + 3_600 * 23 + 59, "6 d 23 h"),
        (86_400 + 59, "1 d"),
    ],
)
def test_duration_has_its_two_largest_units(seconds: float, expected: str) -> None:
    assert output.duration(seconds) == expected


def test_expiry_includes_remaining_time() -> None:
    assert output.until(None) == "never"
    assert "(in 59 min" in output.until(datetime.now(UTC) + timedelta(hours=1))
    assert "(in" not in output.until(datetime(2020, 1, 1, tzinfo=UTC))


def test_table_prints_literal_text_without_control_characters() -> None:
    printed = io.StringIO()
    with redirect_stdout(printed):
        output.table(["segment"], [["[red]a[/] \x1b[2J\x07"], ["x" * 300]])
    assert "[red]a[/] \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}" in printed.getvalue()
    # Without a terminal, nothing is truncated.
    assert "x" * 300 in printed.getvalue()


def test_rule_is_formatted_as_text() -> None:
    rule = AssignedRule(
        percent=12.5,
        count=None,
        include=("a", "b"),
        exclude=("c",),
        accounts=("active", "blocked"),
        newcomers=True,
        ttl="PT604800S",
        target=None,
        assigned=None,
        skipped=0,
    )
    assert format_rule(rule) == (
        "12.5 %, in a or b, not in c, accounts active, blocked, for 7 d, and newcomers"
    )
