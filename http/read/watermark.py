"""The watermark of the history store: the timestamp up to which it has every row.

Proved by counting: each progress marker says how many history rows its shard had written in total
when everything up to the marker's timestamp was written. A store with at least as many rows of that
partition is complete up to that timestamp; one with fewer, up to that of an older marker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

from segments.contracts.times import to_rfc3339
from segments.http.problems import Problem
from segments.http.routing.headers import COMPLETE_UNTIL
from segments.state.history.protocol import HistoryReader, StoreProgress
from segments.state.view.view import Marker, View

_MARKERS_MAX = 512
_POLL_S = 0.05


class Watermark:
    """Keeps past markers of every partition; beyond a limit, every second one is dropped."""

    def __init__(self, view: View, history: HistoryReader) -> None:
        self._view = view
        self._history = history
        self._marks: dict[int, list[tuple[int, int]]] = {}
        self._first_at_ms: dict[int, int] = {}
        self._progress_query: asyncio.Task[dict[int, StoreProgress]] | None = None
        self.update(view.progress)

    def update(self, advanced: Iterable[int]) -> None:
        """Add the newest markers of these partitions."""
        for partition in advanced:
            marker = self._view.progress[partition]
            marks = self._marks.setdefault(partition, [])
            self._first_at_ms.setdefault(partition, marker.at_ms)
            if marks and marker.history_rows <= marks[-1][0]:
                marks.pop()
            marks.append((marker.history_rows, marker.at_ms))
            if len(marks) > _MARKERS_MAX:
                del marks[1:-1:2]

    def until(self, stored: Mapping[int, StoreProgress], partition: int) -> int | None:
        """The timestamp (ms) up to which a partition is complete; None if unknown."""
        rows = stored[partition].rows if partition in stored else 0
        for history_rows, at_ms in reversed(self._marks.get(partition, [])):
            if history_rows <= rows:
                return at_ms
        return None

    def lag_ms(self, stored: Mapping[int, StoreProgress], partition: int) -> int | None:
        """A lower bound of the store's lag behind the view in ms; None before the first marker."""
        marks = self._marks.get(partition)
        if not marks:
            return None
        complete_ms = self.until(stored, partition)
        # Behind every marker kept: it lags since the first marker, or longer.
        since_ms = self._first_at_ms[partition] if complete_ms is None else complete_ms
        return max(0, marks[-1][1] - since_ms)

    async def wait_until(
        self, partitions: Iterable[int], target_ms: int, wait_s: float
    ) -> int | None:
        """Wait up to `wait_s` for these partitions to be complete up to `target_ms`.

        Returns the timestamp (ms) up to which they are complete; None if unknown.
        """
        required = list(partitions)

        def complete_ms(stored: Mapping[int, StoreProgress]) -> int | None:
            watermarks = [self.until(stored, partition) for partition in required]
            known = [at_ms for at_ms in watermarks if at_ms is not None]
            return min(known) if len(known) == len(watermarks) else None

        return await self._watch(complete_ms, target_ms, wait_s)

    async def require(self, partitions: Iterable[int], target_ms: int, wait_s: float) -> int:
        """Like `wait_until`; Problem 503 `history_behind` if `target_ms` is not reached in time."""
        complete_ms = await self.wait_until(partitions, target_ms, wait_s)
        if complete_ms is None or complete_ms < target_ms:
            raise behind(complete_ms, target_ms)
        return complete_ms

    async def require_rows(self, partition: int, marker: Marker, wait_s: float) -> int:
        """Wait for a partition to have the marker's rows; returns the marker's timestamp (ms).

        Rows, because a marker's timestamp can stand still while rows are written (deletion of a
        large segment), and a client that waits for its write needs its rows. Problem 503 as for
        `require`.
        """

        def rows(stored: Mapping[int, StoreProgress]) -> int:
            return stored[partition].rows if partition in stored else 0

        reached = await self._watch(rows, marker.history_rows, wait_s)
        if reached is None or reached < marker.history_rows:
            raise behind(await self.wait_until([partition], 0, 0), marker.at_ms)
        return marker.at_ms

    async def _watch(
        self,
        measure: Callable[[Mapping[int, StoreProgress]], int | None],
        target: int,
        wait_s: float,
    ) -> int | None:
        """Poll the store until `measure` of its progress is at least `target`; returns the last."""
        deadline_s = time.monotonic() + wait_s
        while True:
            measured = measure(await self._stored())
            if measured is not None and measured >= target:
                return measured
            if time.monotonic() >= deadline_s:
                return measured
            await asyncio.sleep(_POLL_S)

    async def _stored(self) -> Mapping[int, StoreProgress]:
        """The store's progress; concurrent callers share one query."""
        if self._progress_query is None or self._progress_query.done():
            self._progress_query = asyncio.create_task(self._history.progress())
        return await asyncio.shield(self._progress_query)


def behind(complete_ms: int | None, target_ms: int) -> Problem:
    """503: the history store is not complete up to `target_ms`."""
    so_far = None if complete_ms is None else to_rfc3339(complete_ms)
    headers = {"Retry-After": "1"} | ({} if so_far is None else {COMPLETE_UNTIL: so_far})
    return Problem(
        503,
        "history_behind",
        f"the history store is complete up to {so_far or 'an unknown time'}; "
        f"everything up to {to_rfc3339(target_ms)} is needed",
        extra={"complete_until": so_far},
        headers=headers,
    )
