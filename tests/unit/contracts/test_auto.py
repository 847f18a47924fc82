"""Validation and target sizes of automatic assignment rules."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from segments.contracts.auto import Auto, percent_to_ppm, target_of
from segments.contracts.commands import COMMAND_ADAPTER


@pytest.mark.parametrize(
    ("percent", "ppm"),
    [(100, 1_000_000), (0.0001, 1), (33.3333, 333_333), (12.5, 125_000), (1.0, 10_000)],
)
def test_percentages_are_exact(percent: float, ppm: int) -> None:
    assert percent_to_ppm(percent) == ppm


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"percent": None},
        {"percent": 0},
        {"percent": -1},
        {"percent": 100.0001},
        {"percent": 150},
        {"percent": float("nan")},
        {"percent": float("inf")},
        {"percent": "10"},
        {"percent": True},
        {"percent": 1.00001},
        {"percent": 0.00001},
        {"count": 0},
        {"count": -5},
        {"count": 1.5},
        {"count": "7"},
        {"count": 1_000_000_001},
        {"percent": 10, "count": 5},
        {"percent": 10, "include": ["a"], "exclude": ["a"]},
        {"percent": 10, "include": ["a", "a"]},
        {"percent": 10, "include": ["../x"]},
        {"percent": 10, "include": [f"s{n}" for n in range(1_000)]},
        {"percent": 10, "exclude": "a"},
        {"percent": 10, "accounts": []},
        {"percent": 10, "accounts": ["deleted"]},
        {"percent": 10, "accounts": ["active", "active"]},
        {"percent": 10, "ttl": "P101Y"},
        {"percent": 10, "ttl": 0},
        {"percent": 10, "newcomers": "yes"},
        {"percent": 10, "newcomers": 1},
        {"percent": 10, "surprise": 1},
    ],
)
def test_invalid_rules_are_rejected(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Auto.model_validate(rule)


@pytest.mark.parametrize("command_type", ["create_segment", "update_segment"])
@pytest.mark.parametrize("field", ["include", "exclude"])
def test_rule_cannot_refer_to_its_own_segment(command_type: str, field: str) -> None:
    with pytest.raises(ValidationError, match="the segment itself"):
        COMMAND_ADAPTER.validate_python(
            {"type": command_type, "segment": "A", "auto": {"percent": 1, field: ["A"]}}
        )


@pytest.mark.parametrize("command_type", ["create_segment", "update_segment"])
def test_rule_cannot_be_removed(command_type: str) -> None:
    with pytest.raises(ValidationError, match="to remove a rule, delete the segment"):
        COMMAND_ADAPTER.validate_python({"type": command_type, "segment": "A", "auto": None})


@given(st.integers(1, 1_000_000), st.integers(0, 10**9))
def test_percentage_is_rounded_half_up(ppm: int, population: int) -> None:
    rule = Auto.model_validate(orjson.loads(orjson.dumps({"percent": ppm / 10_000}))).rule()
    assert rule["ppm"] == ppm
    exact = Decimal(ppm) * population / 1_000_000
    assert target_of(rule, population) == int(exact.quantize(Decimal(1), ROUND_HALF_UP))


def test_count_is_limited_to_the_population() -> None:
    assert target_of(Auto(count=10).rule(), 3) == 3
