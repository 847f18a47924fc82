"""Waiters blocked until the view reaches a log position or a command's result arrives.

Everything here runs in the event loop; the view consumer's thread notifies through
`call_soon_threadsafe`. Compare Karapace's offset watcher.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from segments.contracts.positions import Position
from segments.http.problems import Problem
from segments.state.view.view import View


class Waiters:
    """At most `max_waiters` at a time; more are rejected with Problem 503 `busy`."""

    def __init__(self, view: View, max_waiters: int) -> None:
        self._view = view
        self._max_waiters = max_waiters
        self._count = 0
        self._number = itertools.count()
        self._positions: dict[int, list[_Waiter]] = {}
        self._results: dict[str, list[asyncio.Future[dict[str, Any]]]] = {}

    @property
    def count(self) -> int:
        """How many are waiting."""
        return self._count

    def has_reached(self, position: Position) -> bool:
        """Whether the view has applied this position."""
        marker = self._view.progress.get(position.partition)
        return marker is not None and marker.log_offset >= position.offset

    async def wait_for_position(self, position: Position, wait_s: float) -> bool:
        """Wait up to `wait_s` for this position; returns whether the view has applied it."""
        if self.has_reached(position):
            return True
        self._enter()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._positions.setdefault(position.partition, [])
        heapq.heappush(queue, (position.offset, next(self._number), future))
        try:
            async with asyncio.timeout(wait_s):
                await future
        except TimeoutError:
            return self.has_reached(position)
        finally:
            self._count -= 1
            if future.cancelled():
                self._remove_cancelled(position.partition)
        return True

    def _remove_cancelled(self, partition: int) -> None:
        """Keep cancelled waiters from accumulating in a partition that does not advance."""
        queue = self._positions[partition]
        if len(queue) > 2 * self._count + _CANCELLED_MIN:
            queue[:] = [waiter for waiter in queue if not waiter[2].done()]
            heapq.heapify(queue)

    def expect_result(self, command_id: str) -> asyncio.Future[dict[str, Any]]:
        """A future for a command's result. Call before producing the command; `forget` it after."""
        self._enter()
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._results.setdefault(command_id, []).append(future)
        return future

    def forget(self, command_id: str, future: asyncio.Future[dict[str, Any]]) -> None:
        """Stop waiting for a result."""
        self._count -= 1
        future.cancel()
        futures = self._results[command_id]
        futures.remove(future)
        if not futures:
            del self._results[command_id]

    def _enter(self) -> None:
        if self._count >= self._max_waiters:
            raise Problem(
                503, "busy", "too many requests are waiting", headers={"Retry-After": "1"}
            )
        self._count += 1

    def notify(self, advanced: Iterable[int], results: Mapping[str, bytes]) -> None:
        """Wake the waiters whose position was reached or whose result arrived."""
        for partition in advanced:
            self._wake(partition)
        if self._results:
            for command_id in self._results.keys() & results.keys():
                result = orjson.loads(results[command_id])
                for future in self._results[command_id]:
                    if not future.done():
                        future.set_result(result)

    def _wake(self, partition: int) -> None:
        queue = self._positions.get(partition)
        marker = self._view.progress.get(partition)
        while queue and marker is not None:
            offset, _, future = queue[0]
            if not future.done():
                if offset > marker.log_offset:
                    break
                future.set_result(None)
            heapq.heappop(queue)


_Waiter = tuple[int, int, asyncio.Future[None]]
"""(offset, sequence number to break ties, future that completes when the offset is reached)."""
_CANCELLED_MIN = 64
