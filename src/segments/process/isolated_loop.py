"""An event loop of its own for work that would hold up others: key exchanges, models of APIs."""

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
    """What `work` returns or raises, run in a thread of this name.

    Cancelling this cancels the work and waits until it has ended, at most `end_s`; none = END_S.
    """
    begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Task[Any] | None]] = Future()
    ended: Future[T] = Future()

    async def begin() -> T:
        begun.set_result((asyncio.get_running_loop(), asyncio.current_task()))
        return await work()

    def run() -> None:
        try:
            ended.set_result(asyncio.run(begin()))
        except BaseException as error:  # noqa: BLE001 - raised by whom it is handed to
            ended.set_exception(error)

    threading.Thread(target=run, name=name, daemon=True).start()
    outcome = asyncio.wrap_future(ended)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        if not outcome.done():
            loop, task = await asyncio.wrap_future(begun)
            assert task is not None, "it is run by one"
            loop.call_soon_threadsafe(task.cancel)
            await asyncio.wait([outcome], timeout=END_S if end_s is None else end_s)
        if outcome.done() and not outcome.cancelled():
            outcome.exception()  # seen: what counts is that it was cancelled
        raise
