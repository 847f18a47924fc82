"""The watermark of the history store: never later than what the store contains."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from segments.http.problems import Problem
from segments.http.read import watermark as module
from segments.http.read.watermark import Watermark
from segments.state.history.protocol import StoreProgress
from segments.state.view.view import Marker


class _View:
    def __init__(self) -> None:
        self.progress: dict[int, Marker] = {}


class _Store:
    """A history store with a number of rows per partition."""

    def __init__(self) -> None:
        self.rows: Counter[int] = Counter()
        self.asked = 0
        self.was_asked = asyncio.Event()

    async def progress(self) -> dict[int, StoreProgress]:
        self.asked += 1
        self.was_asked.set()
        await asyncio.sleep(0)
        return {partition: StoreProgress(0, 0, rows) for partition, rows in self.rows.items()}


class _Harness:
    """A shard that writes rows and markers, a store that follows it, and their watermark."""

    def __init__(self) -> None:
        self.view = _View()
        self.store = _Store()
        self.watermark = Watermark(self.view, self.store)  # type: ignore[arg-type] # doubles

    def mark(self, partition: int, history_rows: int, at_ms: int) -> None:
        marker = Marker(0, at_ms, history_rows, -1, at_ms)
        self.view.progress = self.view.progress | {partition: marker}
        self.watermark.update([partition])

    async def claimed(self, *partitions: int) -> int | None:
        return await self.watermark.wait_until(partitions, 0, 0)


@pytest.fixture
def harness() -> _Harness:
    return _Harness()


async def test_there_is_no_watermark_before_a_marker(harness: _Harness) -> None:
    harness.store.rows[0] = 5
    assert await harness.claimed(0) is None
    with pytest.raises(Problem, match="unknown time"):
        await harness.watermark.require([0], 1, 0)


async def test_a_marker_counts_when_its_rows_are_stored(harness: _Harness) -> None:
    harness.mark(0, 3, 100)
    harness.mark(0, 5, 200)
    claims = []
    for rows in range(7):
        harness.store.rows[0] = rows
        claims.append(await harness.claimed(0))
    assert claims == [None, None, None, 100, 100, 200, 200]


async def test_the_watermark_advances_without_rows(harness: _Harness) -> None:
    for at_ms in range(100, 5_000):
        harness.mark(0, 0, at_ms)
    assert await harness.claimed(0) == 4_999
    assert len(harness.watermark._marks[0]) == 1


async def test_the_watermark_is_that_of_the_slowest_partition(harness: _Harness) -> None:
    harness.mark(0, 1, 100)
    harness.mark(1, 1, 300)
    harness.store.rows.update({0: 1, 1: 1})
    assert await harness.claimed(0, 1) == 100
    assert await harness.claimed(1) == 300
    assert await harness.claimed(0, 1, 2) is None


async def test_rows_written_before_the_start_count(harness: _Harness) -> None:
    harness.mark(0, 2, 100)
    harness.store.rows[0] = 2
    started = Watermark(harness.view, harness.store)  # type: ignore[arg-type] # doubles
    assert await started.wait_until([0], 0, 0) == 100


async def test_a_wait_ends_when_the_watermark_is_reached(harness: _Harness) -> None:
    harness.mark(0, 1, 100)
    waiting = asyncio.create_task(harness.watermark.require([0], 100, 60))
    await harness.store.was_asked.wait()
    assert not waiting.done()
    harness.store.rows[0] = 1
    assert await waiting == 100


async def test_a_wait_that_times_out_reports_the_watermark(harness: _Harness) -> None:
    harness.mark(0, 0, 86_400_000)
    with pytest.raises(Problem) as caught:
        await harness.watermark.require([0], 86_400_001, 0)
    assert (caught.value.status, caught.value.code) == (503, "history_behind")
    assert caught.value.headers == {
        "Retry-After": "1",
        "Segments-Complete-Until": "1970-01-02T00:00:00.000Z",
    }
    assert caught.value.extra == {"complete_until": "1970-01-02T00:00:00.000Z"}


async def test_concurrent_waits_share_one_query(harness: _Harness) -> None:
    harness.mark(0, 1, 100)
    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(harness.claimed(0))
    assert harness.store.asked < 5


async def test_one_of_several_waits_can_be_cancelled(harness: _Harness) -> None:
    harness.mark(0, 1, 100)
    harness.store.rows[0] = 1
    leaving = asyncio.create_task(harness.claimed(0))
    staying = asyncio.create_task(harness.claimed(0))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying == 100


async def test_all_rows_of_one_timestamp_are_waited_for(harness: _Harness) -> None:
    """While a large segment is deleted, the markers' row counts grow at the same timestamp."""
    harness.mark(0, 5, 100)
    harness.mark(0, 9, 100)
    harness.store.rows[0] = 5
    assert await harness.claimed(0) == 100
    with pytest.raises(Problem, match="history"):
        await harness.watermark.require_rows(0, harness.view.progress[0], 0)
    harness.store.rows[0] = 9
    assert await harness.watermark.require_rows(0, harness.view.progress[0], 0) == 100


events = st.lists(
    st.one_of(
        st.tuples(st.just("row"), st.integers(0, 1), st.integers(0, 3)),
        st.tuples(st.just("mark"), st.integers(0, 1), st.integers(0, 2)),
        st.tuples(st.just("store"), st.integers(0, 1), st.integers(0, 40)),
    ),
    max_size=200,
)


@settings(max_examples=150, deadline=None)
@given(events, st.sampled_from([3, 8, 512]))
async def test_the_watermark_never_exceeds_the_store(
    events: list[tuple[str, int, int]], marks_max: int
) -> None:
    """All rows up to the watermark are in the store, however the markers are thinned out."""
    harness = _Harness()
    written: dict[int, list[int]] = {0: [], 1: []}
    now_ms = 1
    before = module._MARKERS_MAX
    module._MARKERS_MAX = marks_max
    try:
        for kind, partition, number in events:
            now_ms += number
            if kind == "row":
                written[partition].append(now_ms)
            elif kind == "mark":
                harness.mark(partition, len(written[partition]), now_ms - 1)
            else:
                harness.store.rows[partition] = min(
                    harness.store.rows[partition] + number, len(written[partition])
                )
            for asked in ([0], [1], [0, 1]):
                claimed_ms = await harness.claimed(*asked)
                if claimed_ms is None:
                    continue
                for each in asked:
                    missing = written[each][harness.store.rows[each] :]
                    assert all(at_ms > claimed_ms for at_ms in missing)
        assert all(len(marks) <= marks_max + 1 for marks in harness.watermark._marks.values())
    finally:
        module._MARKERS_MAX = before


async def test_markers_are_bounded_and_the_newest_always_counts(harness: _Harness) -> None:
    for rows in range(20_000):
        harness.mark(0, rows, rows)
    assert len(harness.watermark._marks[0]) <= module._MARKERS_MAX
    harness.store.rows[0] = 19_999
    assert await harness.claimed(0) == 19_999
    harness.store.rows[0] = 19_000
    claimed: Any = await harness.claimed(0)
    assert 15_000 < claimed <= 19_000


async def test_no_wait_outlasts_its_limit(harness: _Harness) -> None:
    harness.mark(0, 1, 100)
    started_s = time.monotonic()
    assert await harness.watermark.wait_until([0], 100, 0.2) is None
    assert time.monotonic() - started_s < 30


def test_the_lag_of_the_store_is_measured_in_log_time(harness: _Harness) -> None:
    def behind_ms(rows: int) -> int | None:
        return harness.watermark.lag_ms({0: StoreProgress(0, 0, rows)}, 0)

    assert behind_ms(0) is None
    harness.mark(0, history_rows=3, at_ms=1_000)
    assert behind_ms(3) == 0
    harness.mark(0, history_rows=5, at_ms=4_000)
    assert behind_ms(3) == 3_000
    # A store that was behind at the first marker is behind at least since then, even if
    # nothing is written afterwards.
    assert behind_ms(2) == 3_000
    harness.mark(0, history_rows=5, at_ms=9_000)
    assert behind_ms(2) == 8_000
    assert behind_ms(5) == 0
