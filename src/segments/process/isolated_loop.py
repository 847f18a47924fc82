"""Runs a coroutine in an event loop of its own thread.

For work that would block the main loop, such as key exchanges or the loading of API models.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")
END_S = 30.0


async def run_isolated(
    work: Callable[[], Coroutine[Any, Any, T]], name: str, *, end_s: float | None = None
) -> T:
    """Run `work` in a thread with this name, and return its result or raise its error.

    Cancellation cancels the work and waits for its end, at most `end_s` (None: END_S).
    """
    started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = Future()
    finished: Future[T] = Future()

    async def start() -> T:
        started.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await work()

    def run() -> None:
        try:
            finished.set_result(asyncio.run(start()))
        except BaseException as error:  # noqa: BLE001 - raised to the awaiting caller
            finished.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    outcome = asyncio.wrap_future(finished)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        if not outcome.done():
            loop, task = await asyncio.wrap_future(started)
            assert task is not None, "a coroutine of asyncio.run has a task"
            loop.call_soon_threadsafe(task.cancel)
            await asyncio.wait([outcome], timeout=END_S if end_s is None else end_s)
        if outcome.done() and not outcome.cancelled():
            outcome.exception()  # retrieved, so that asyncio does not log it
        raise
