"""Those who wait for the view: for a position of a shard's log, or for the result of a command.

Everything here runs in the event loop; the thread that fills the view reports through
`call_soon_threadsafe`. Compare Karapace's offset watcher.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import orjson

from segments.http.problems import Problem
from segments.state.view import View


class Position(NamedTuple):
    """`partition:offset` of the shard log."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}:{self.offset}"


class Waiting:
    """Bounded: past `max_waiters` a further one is turned away."""

    def __init__(self, view: View, max_waiters: int) -> None:
        self._view = view
        self._max_waiters = max_waiters
        self._count = 0
        self._number = itertools.count()
        self._positions: dict[int, list[tuple[int, int, asyncio.Future[None]]]] = {}
        self._results: dict[str, list[asyncio.Future[dict[str, Any]]]] = {}

    def is_fresh(self, position: Position) -> bool:
        """Whether the view has applied this position."""
        marker = self._view.progress.get(position.partition)
        return marker is not None and marker.log_offset >= position.offset

    async def fresh(self, position: Position, wait_s: float) -> bool:
        """Whether the view has applied this position, after waiting at most this long."""
        if self.is_fresh(position):
            return True
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._positions.setdefault(position.partition, [])
        heapq.heappush(queue, (position.offset, next(self._number), future))
        return await self._wait(future, wait_s) is not _NOTHING

    def expect_result(self, command_id: str) -> asyncio.Future[dict[str, Any]]:
        """The next result of a command; ask before it is produced, and `forget` it at the end."""
        if self._count >= self._max_waiters:
            raise _turned_away()
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._results.setdefault(command_id, []).append(future)
        self._count += 1
        return future

    def forget(self, command_id: str, future: asyncio.Future[dict[str, Any]]) -> None:
        """Stop waiting for a result."""
        self._count -= 1
        future.cancel()
        waiting = self._results.get(command_id)
        if waiting is not None:
            waiting.remove(future)
            if not waiting:
                del self._results[command_id]

    async def _wait(self, future: asyncio.Future[Any], wait_s: float) -> Any:
        if self._count >= self._max_waiters:
            future.cancel()
            raise _turned_away()
        self._count += 1
        try:
            return await asyncio.wait_for(future, wait_s)
        except TimeoutError:
            return _NOTHING
        finally:
            self._count -= 1

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


_NOTHING = object()


def _turned_away() -> Problem:
    return Problem(503, "busy", "too many requests are waiting", headers={"Retry-After": "1"})
