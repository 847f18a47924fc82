"""Waiters: woken in time, bounded in number, and removed completely."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from segments.contracts.positions import Position
from segments.http.problems import Problem
from segments.http.read.waiters import Waiters
from segments.state.view.view import Marker, View
from tests.support.view.view_records import opened, result

LONG_S = 60.0


@pytest.fixture
async def view(tmp_path: Path) -> AsyncIterator[View]:
    view = opened(tmp_path / "view")
    yield view
    view.close()


def reach(view: View, waiters: Waiters, partition: int, log_offset: int) -> None:
    view.progress = view.progress | {partition: Marker(log_offset, 0, 0, -1, 0)}
    waiters.notify([partition], {})


def entries(waiters: Waiters) -> int:
    return sum(map(len, waiters._positions.values()))


async def test_a_reached_position_returns_at_once(view: View) -> None:
    waiters = Waiters(view, max_waiters=0)
    reach(view, waiters, 3, 10)
    assert await waiters.wait_for_position(Position(3, 10), LONG_S)
    assert not waiters.has_reached(Position(3, 11))
    assert not waiters.has_reached(Position(2, 0))


async def test_each_waiter_is_woken_at_its_position_and_not_before(view: View) -> None:
    waiters = Waiters(view, max_waiters=10)
    tasks = {
        offset: asyncio.create_task(waiters.wait_for_position(Position(0, offset), LONG_S))
        for offset in (5, 1, 9, 5, 3)
    }
    other = asyncio.create_task(waiters.wait_for_position(Position(1, 1), LONG_S))
    await asyncio.sleep(0)
    reach(view, waiters, 0, 4)
    await asyncio.wait([tasks[1], tasks[3]])
    assert [offset for offset, task in sorted(tasks.items()) if task.done()] == [1, 3]
    reach(view, waiters, 0, 9)
    assert await asyncio.gather(*tasks.values()) == [True] * 4
    assert not other.done()
    reach(view, waiters, 1, 1)
    assert await other
    assert entries(waiters) == 0


async def test_a_wait_that_times_out_returns_false(view: View) -> None:
    waiters = Waiters(view, max_waiters=1)
    assert not await waiters.wait_for_position(Position(0, 1), 0)
    assert not await waiters.wait_for_position(Position(0, 1), 0.001)
    assert waiters._count == 0


async def test_a_waiter_beyond_the_limit_is_rejected_and_not_registered(view: View) -> None:
    waiters = Waiters(view, max_waiters=2)
    first = asyncio.create_task(waiters.wait_for_position(Position(0, 1), LONG_S))
    second = waiters.expect_result("c")
    await asyncio.sleep(0)
    for _ in range(500):
        with pytest.raises(Problem, match="busy"):
            await waiters.wait_for_position(Position(0, 1), LONG_S)
        with pytest.raises(Problem, match="busy"):
            waiters.expect_result("d")
    assert entries(waiters) == 1
    assert list(waiters._results) == ["c"]
    waiters.forget("c", second)
    third = asyncio.create_task(waiters.wait_for_position(Position(0, 2), LONG_S))
    await asyncio.sleep(0)
    reach(view, waiters, 0, 2)
    assert [await first, await third] == [True, True]


async def test_timed_out_waiters_are_removed_from_idle_partitions(view: View) -> None:
    """Even behind one that still waits for the smallest offset."""
    waiters = Waiters(view, max_waiters=100)
    patient = asyncio.create_task(waiters.wait_for_position(Position(0, 1), LONG_S))
    for _ in range(40):
        tasks = [
            asyncio.create_task(waiters.wait_for_position(Position(0, 9), LONG_S))
            for _ in range(20)
        ]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert not await waiters.wait_for_position(Position(0, 9), 0)
    assert entries(waiters) <= 100
    assert waiters._count == 1
    reach(view, waiters, 0, 1)
    assert await patient


async def test_every_waiter_of_a_result_gets_it(view: View) -> None:
    waiters = Waiters(view, max_waiters=10)
    futures = [waiters.expect_result("c") for _ in range(3)]
    other = waiters.expect_result("d")
    futures[0].cancel()
    waiters.notify([], {"c": result("c"), "e": result("e")})
    assert futures[1].result()["command_id"] == "c"
    assert futures[2].result()["command_id"] == "c"
    assert not other.done()
    waiters.notify([], {"c": result("c", "unchanged")})
    assert futures[1].result()["status"] == "applied", "the first result is the one"
    for future in futures:
        waiters.forget("c", future)
    waiters.forget("d", other)
    assert (waiters._results, waiters._count) == ({}, 0)


class _OnlyProgress:
    """The part of a view that waiters use."""

    def __init__(self) -> None:
        self.progress: dict[int, Marker] = {}


steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 30)),
        st.tuples(st.just("reach"), st.integers(0, 30)),
        st.tuples(st.just("cancel"), st.integers(0, 40)),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None)
@given(steps)
async def test_every_waiter_is_woken_exactly_when_its_position_is_reached(
    steps: list[tuple[str, int]],
) -> None:
    view = _OnlyProgress()
    waiters = Waiters(view, max_waiters=100)  # type: ignore[arg-type] # a double
    tasks: list[tuple[int, asyncio.Task[bool]]] = []
    cancelled: set[int] = set()
    reached = -1
    for kind, number in steps:
        if kind == "wait":
            tasks.append(
                (
                    number,
                    asyncio.create_task(waiters.wait_for_position(Position(0, number), LONG_S)),
                )
            )
        elif kind == "reach":
            reached = max(reached, number)
            view.progress = {0: Marker(reached, 0, 0, -1, 0)}
            waiters.notify([0], {})
        elif number < len(tasks) and not tasks[number][1].done():
            tasks[number][1].cancel()
            cancelled.add(number)
        for _ in range(3):
            await asyncio.sleep(0)
        for place, (offset, task) in enumerate(tasks):
            if place not in cancelled:
                assert task.done() == (offset <= reached)
        assert waiters._count == sum(not task.done() for _, task in tasks)
    for _, task in tasks:
        task.cancel()
    await asyncio.gather(*(task for _, task in tasks), return_exceptions=True)
    assert waiters._count == 0
