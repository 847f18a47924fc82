"""Encoding of stored command outcomes."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from segments.contracts.names import check_segment_name
from segments.state.machine.deduplication import recall, remember
from segments.state.machine.documents import Outcome
from segments.state.machine.memberships import Rejection


def is_name(text: str) -> bool:
    try:
        return bool(check_segment_name(text))
    except ValueError:
        return False


NAMES = st.text(min_size=1, max_size=12).filter(is_name) | st.sampled_from(["a", "a-b", "a:b.c_d"])
CHANGES = st.lists(
    st.tuples(NAMES, st.sampled_from(["add", "remove", "extend"])).map(list), max_size=5
)
REJECTIONS = st.builds(
    Rejection,
    st.sampled_from(["segment_unknown", "invalid"]),
    st.text(),
    st.none() | st.lists(NAMES),
)
NUMBERS = st.integers(0, 2**53)


@given(st.none() | REJECTIONS, CHANGES, st.sampled_from(["applied", "unchanged"]), NUMBERS, NUMBERS)
def test_an_outcome_round_trips(
    rejection: Rejection | None, changes: list[list[str]], status: Any, offset: int, at: int
) -> None:
    outcome = Outcome(
        status="rejected" if rejection else status,
        error=rejection.as_error() if rejection else None,
        changes=[] if rejection else changes,
        offset=offset,
        at=at,
    )
    outcomes: dict[str, str] = {}
    remember(outcomes, "x", outcome, 64)
    assert recall(outcomes, "x") == outcome
    assert recall(outcomes, "y") is None


def test_the_oldest_outcome_is_dropped() -> None:
    outcomes: dict[str, str] = {}
    for number in range(10):
        outcome = Outcome(status="unchanged", error=None, changes=[], offset=number, at=0)
        remember(outcomes, f"x{number}", outcome, 3)
    assert list(outcomes) == ["x7", "x8", "x9"]
