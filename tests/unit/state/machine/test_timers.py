"""Timer queue, compared with a dictionary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from segments.state.machine.timers import Timers

CHANGES = st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 20)), max_size=60)


def drain(timers: Timers, now_ms: int) -> list[int]:
    found = []
    while (ordinal := timers.first_due(now_ms)) is not None:
        found.append(ordinal)
        timers.set(ordinal, None)
    return found


@given(CHANGES, st.integers(0, 20))
def test_due_timers_are_ordered_by_time_and_ordinal(
    changes: list[tuple[int, int | None]], now_ms: int
) -> None:
    timers, due = Timers(), dict[int, int]()
    for ordinal, due_ms in changes:
        timers.set(ordinal, due_ms)
        if due_ms is None:
            due.pop(ordinal, None)
        else:
            due[ordinal] = due_ms
        assert len(timers) == len(due)
        assert timers.next_due_ms() == min(due.values(), default=None)
    expected = sorted((at, ordinal) for ordinal, at in due.items() if at <= now_ms)
    assert drain(timers, now_ms) == [ordinal for _, ordinal in expected]
    assert timers.next_due_ms() == min((at for at in due.values() if at > now_ms), default=None)


def test_a_due_timer_stays_until_it_is_set_again() -> None:
    timers = Timers()
    timers.set(3, 10)
    assert (timers.first_due(9), timers.first_due(10), timers.first_due(11)) == (None, 3, 3)
    timers.set(3, 12)
    assert timers.first_due(11) is None
    assert timers.next_due_ms() == 12


def test_changing_a_due_time_repeatedly_does_not_grow_memory() -> None:
    timers = Timers()
    due: dict[int, int] = {}
    number = 0
    for number in range(10_000):
        ordinal = number % 100
        due[ordinal] = number * 7_919 % 10_007
        timers.set(ordinal, due[ordinal])
        assert len(timers._heap) <= 2 * 100 + 1024 + 1
    while len(timers._heap) > 100:
        number += 1
        due[number % 100] = number * 7_919 % 10_007
        timers.set(number % 100, due[number % 100])
    assert len(timers) == 100
    assert drain(timers, 10_007) == sorted(due, key=lambda ordinal: due[ordinal])
