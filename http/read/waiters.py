"""Those who wait for the view: for a position of a shard's log, or for the result of a command.

Everything here runs in the event loop; the thread that fills the view reports through
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


class Waiting:
    """Bounded: past `max_waiters` a further one is turned away."""

    def __init__(self, view: View, max_waiters: int) -> None:
        self._view = view
        self._max_waiters = max_waiters
        self._count = 0
        self._number = itertools.count()
        self._positions: dict[int, list[_Waiter]] = {}
        self._results: dict[str, list[asyncio.Future[dict[str, Any]]]] = {}

    @property
    def count(self) -> int:
        """How many wait now."""
        return self._count

    def is_fresh(self, position: Position) -> bool:
        """Whether the view has applied this position."""
        marker = self._view.progress.get(position.partition)
        return marker is not None and marker.log_offset >= position.offset

    async def fresh(self, position: Position, wait_s: float) -> bool:
        """Whether the view has applied this position, after waiting at most this long."""
        if self.is_fresh(position):
            return True
        self._enter()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._positions.setdefault(position.partition, [])
        heapq.heappush(queue, (position.offset, next(self._number), future))
        try:
            async with asyncio.timeout(wait_s):
                await future
        except TimeoutError:
            return self.is_fresh(position)
        finally:
            self._count -= 1
            if future.cancelled():
                self._sweep(position.partition)
        return True

    def _sweep(self, partition: int) -> None:
        """Keep those who gave up from piling up where nothing advances."""
        queue = self._positions[partition]
        if len(queue) > 2 * self._count + _SWEPT_ABOVE:
            queue[:] = [waiter for waiter in queue if not waiter[2].done()]
            heapq.heapify(queue)

    def expect_result(self, command_id: str) -> asyncio.Future[dict[str, Any]]:
        """The next result of a command; ask before it is produced, and `forget` it at the end."""
        self._enter()
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._results.setdefault(command_id, []).append(future)
        return future

    def forget(self, command_id: str, future: asyncio.Future[dict[str, Any]]) -> None:
        """Stop waiting for a result."""
        self._count -= 1
        future.cancel()
        waiting = self._results[command_id]
        waiting.remove(future)
        if not waiting:
            del self._results[command_id]

    def _enter(self) -> None:
        if self._count >= self._max_waiters:
            raise Problem(
                503, "busy", "too many requests are waiting", headers={"Retry-After": "1"}
            )
        self._count += 1

    def report(self, advanced: Iterable[int], results: Mapping[str, bytes]) -> None:
        """Wake those whose position or result has come."""
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
"""Offset, number in the order of arrival, what is told when the offset has come."""
_SWEPT_ABOVE = 64
