"""Concurrent fetches of account states, some of which outlast the batch that started them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection
from typing import NamedTuple

from segments.settings import UserServiceSettings
from segments.streams.refresh.user_service import FetchedAccount, FetchError, UserServiceClient

BUDGET_S = 20.0
RETRY_AFTER_MAX_S = 60.0
# While others succeed, the wait for one without a response is limited to this.
STRAGGLER_GRACE_S = 0.5
_POLL_S = 0.05
# Results that are never taken, because their partition moved to another process.
_KEPT_MAX = 100_000


class FetchFailure(NamedTuple):
    """A failed fetch; `began` on the monotonic clock."""

    began: float
    error: FetchError


class _Fetch:
    """`began` is set once the fetch has acquired its slot; until then it is infinite."""

    def __init__(self, order: int) -> None:
        self.order = order
        self.began = float("inf")
        self.task: asyncio.Task[FetchedAccount]


class Fetcher:
    """Fetches by user. Belongs to one event loop.

    A fetch has the order of the event that caused it: its result is at least as new as that event.
    """

    def __init__(self, client: UserServiceClient, settings: UserServiceSettings) -> None:
        self._client = client
        self._settings = settings
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._fetches: dict[str, _Fetch] = {}
        self._consecutive_failures = 0
        self._queued = 0
        self.last_success = float("-inf")
        """Time of the last usable response on the monotonic clock."""

    def begin(self, user_id: str, order: int, *, attempts: int) -> None:
        """Start a fetch, unless one for this event or a later one is running or done."""
        running = self._fetches.get(user_id)
        if running is not None:
            if running.order >= order:
                return
            self._drop(user_id)
        if len(self._fetches) >= _KEPT_MAX:
            self._drop_finished()
        fetch = _Fetch(order)
        fetch.task = asyncio.create_task(self._fetch(user_id, fetch, attempts))
        self._fetches[user_id] = fetch

    def take(self, user_id: str, order: int) -> FetchedAccount | FetchFailure | None:
        """Remove and return the result of a fetch; None while it is running or without one."""
        fetch = self._fetches.get(user_id)
        if fetch is None or fetch.order < order or not fetch.task.done():
            return None
        del self._fetches[user_id]
        try:
            return fetch.task.result()
        except FetchError as error:
            return FetchFailure(fetch.began, error)

    def began(self, user_id: str) -> float:
        """Monotonic start time of the running fetch; infinity when there is none."""
        fetch = self._fetches.get(user_id)
        return float("inf") if fetch is None else fetch.began

    async def settle(self, users: Collection[str]) -> None:
        """Wait until the fetches of these users are done, or further waiting is pointless.

        It is pointless when the service appears to be down (failures only), when the time budget
        of a batch is used up, or when only stragglers are left while others got a response.
        """
        started = last_done = time.monotonic()
        self._consecutive_failures = 0
        tasks = {self._fetches[user].task for user in users if user in self._fetches}
        while tasks:
            done, tasks = await asyncio.wait(
                tasks, timeout=_POLL_S, return_when=asyncio.FIRST_COMPLETED
            )
            now = time.monotonic()
            if done:
                last_done = now
            responding = self.last_success > started
            down = not responding and self._consecutive_failures >= 2 * self._settings.concurrency
            straggling = responding and self._queued == 0 and now - last_done > STRAGGLER_GRACE_S
            if down or straggling or now - started > BUDGET_S:
                return

    def forget(self, users: Collection[str]) -> None:
        """Drop the fetches of these users, and cancel running ones."""
        for user_id in users:
            self._drop(user_id)

    async def close(self) -> None:
        """Cancel every fetch and close the connections."""
        tasks = [fetch.task for fetch in self._fetches.values()]
        for user_id in list(self._fetches):
            self._drop(user_id)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    def _drop_finished(self) -> None:
        for user_id in [user for user, fetch in self._fetches.items() if fetch.task.done()]:
            self._drop(user_id)

    def _drop(self, user_id: str) -> None:
        fetch = self._fetches.pop(user_id, None)
        if fetch is None:
            return
        if not fetch.task.cancel() and not fetch.task.cancelled():
            fetch.task.exception()  # retrieved, so that asyncio does not log it

    async def _fetch(self, user_id: str, fetch: _Fetch, attempts: int) -> FetchedAccount:
        self._queued += 1
        try:
            await self._slots.acquire()
        finally:
            self._queued -= 1
        fetch.began = time.monotonic()
        try:
            # A backoff keeps its slot, which throttles the requests when the service asks for it.
            for attempt in range(1, attempts + 1):
                try:
                    account = await self._client.fetch(user_id)
                except FetchError as error:
                    self._consecutive_failures += 1
                    wait_s = self._wait_s(attempt, error)
                    if attempt == attempts or wait_s > self._settings.backoff_max_ms / 1000:
                        raise
                    await asyncio.sleep(wait_s)
                else:
                    self._consecutive_failures = 0
                    self.last_success = time.monotonic()
                    return account
            raise AssertionError("attempts must be positive")
        finally:
            self._slots.release()

    def _wait_s(self, attempt: int, error: FetchError) -> float:
        backoff_s = (
            min(self._settings.backoff_ms * 2.0 ** (attempt - 1), self._settings.backoff_max_ms)
            / 1000
            * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not security
        )
        return max(backoff_s, min(error.retry_after_s or 0.0, RETRY_AFTER_MAX_S))
