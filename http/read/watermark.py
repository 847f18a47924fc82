"""Up to which instant the history store has every row, proved by counting.

Each progress marker says how many history rows its shard had ever written when everything up to the
marker's instant was out. A store that holds at least as many rows of that partition is complete up
to that instant; a store that is behind is complete up to an older marker's.
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

_MARKS_MAX = 512
_POLL_S = 0.05


class Completeness:
    """Remembers the markers of every partition, fewer the more there are."""

    def __init__(self, view: View, history: HistoryReader) -> None:
        self._view = view
        self._history = history
        self._marks: dict[int, list[tuple[int, int]]] = {}
        self._first_at_ms: dict[int, int] = {}
        self._asked: asyncio.Task[dict[int, StoreProgress]] | None = None
        self.note(view.progress)

    def note(self, advanced: Iterable[int]) -> None:
        """Take over the newest markers of these partitions."""
        for partition in advanced:
            marker = self._view.progress[partition]
            marks = self._marks.setdefault(partition, [])
            self._first_at_ms.setdefault(partition, marker.at_ms)
            if marks and marker.history_rows <= marks[-1][0]:
                marks.pop()
            marks.append((marker.history_rows, marker.at_ms))
            if len(marks) > _MARKS_MAX:
                del marks[1:-1:2]

    def until(self, stored: Mapping[int, StoreProgress], partition: int) -> int | None:
        """The instant (ms) up to which a partition is complete; None when that is not known."""
        rows = stored[partition].rows if partition in stored else 0
        for history_rows, at_ms in reversed(self._marks.get(partition, [])):
            if history_rows <= rows:
                return at_ms
        return None

    def behind_ms(self, stored: Mapping[int, StoreProgress], partition: int) -> int | None:
        """How far the store is behind the view, at least; None before the first marker."""
        marks = self._marks.get(partition)
        if not marks:
            return None
        complete_ms = self.until(stored, partition)
        # Behind everything remembered: since the first marker, or longer.
        since_ms = self._first_at_ms[partition] if complete_ms is None else complete_ms
        return max(0, marks[-1][1] - since_ms)

    async def reached(self, partitions: Iterable[int], wanted_ms: int, wait_s: float) -> int | None:
        """The instant up to which these partitions are complete, None when that is not known.

        Waits at most this long for it to be `wanted_ms` or later.
        """
        wanted_partitions = list(partitions)

        def complete_ms(stored: Mapping[int, StoreProgress]) -> int | None:
            each = [self.until(stored, partition) for partition in wanted_partitions]
            known = [at_ms for at_ms in each if at_ms is not None]
            return min(known) if len(known) == len(each) else None

        return await self._watch(complete_ms, wanted_ms, wait_s)

    async def require(self, partitions: Iterable[int], wanted_ms: int, wait_s: float) -> int:
        """As `reached`, but Problem 503 when it does not come to `wanted_ms` within the wait."""
        complete_ms = await self.reached(partitions, wanted_ms, wait_s)
        if complete_ms is None or complete_ms < wanted_ms:
            raise behind(complete_ms, wanted_ms)
        return complete_ms

    async def require_rows(self, partition: int, marker: Marker, wait_s: float) -> int:
        """The instant (ms) up to which a partition is complete, once it has the marker's rows.

        The instant of a marker can stand still while rows are written (a large segment is being
        deleted): who has been told of a write wants its rows. Problem 503 as for `require`.
        """

        def rows(stored: Mapping[int, StoreProgress]) -> int:
            return stored[partition].rows if partition in stored else 0

        reached = await self._watch(rows, marker.history_rows, wait_s)
        if reached is None or reached < marker.history_rows:
            raise behind(await self.reached([partition], 0, 0), marker.at_ms)
        return marker.at_ms

    async def _watch(
        self,
        measure: Callable[[Mapping[int, StoreProgress]], int | None],
        wanted: int,
        wait_s: float,
    ) -> int | None:
        """The first measure of the store's progress that is enough, or the last one in time."""
        deadline_s = time.monotonic() + wait_s
        while True:
            measured = measure(await self._stored())
            if measured is not None and measured >= wanted:
                return measured
            if time.monotonic() >= deadline_s:
                return measured
            await asyncio.sleep(_POLL_S)

    async def _stored(self) -> Mapping[int, StoreProgress]:
        """The store's progress, asked for once for all who wait at the same time."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.create_task(self._history.progress())
        return await asyncio.shield(self._asked)


def behind(complete_ms: int | None, wanted_ms: int) -> Problem:
    """The history store does not have everything that was asked for."""
    so_far = None if complete_ms is None else to_rfc3339(complete_ms)
    headers = {"Retry-After": "1"} | ({} if so_far is None else {COMPLETE_UNTIL: so_far})
    return Problem(
        503,
        "history_behind",
        f"the history store is complete up to {so_far or 'an unknown instant'}; "
        f"everything up to {to_rfc3339(wanted_ms)} is needed",
        extra={"complete_until": so_far},
        headers=headers,
    )
