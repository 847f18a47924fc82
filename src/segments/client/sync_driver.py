"""Synchronous driver: performs the effects of a call."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from types import TracebackType
from typing import Any, Generic, TypeVar

import httpx

from segments.client import transport
from segments.client.sansio import (
    Effect,
    Freshness,
    ItemPage,
    Pause,
    Reply,
    Request,
    Run,
    Steps,
    TransportFailure,
    Walk,
)

T = TypeVar("T")


class Driver:
    """Runs steps over one connection pool. Thread-safe."""

    def __init__(self, http: httpx.Client, connect_timeout_s: float) -> None:
        self._http = http
        self._connect_timeout_s = connect_timeout_s

    def run(self, steps: Steps[T]) -> T:
        """Run the steps and return their result."""
        run, io = Run(steps), _Io(self._http, self._connect_timeout_s)
        try:
            while run.effect is not None:
                run.advance(io.outcome(run.effect))
            return run.value
        finally:
            run.close()
            io.close()

    def pages(self, walk: Walk[T]) -> Generator[ItemPage, None, None]:
        """Yield the pages of a list, each fetched when it is needed."""
        io = _Io(self._http, self._connect_timeout_s)
        run = Run(walk.steps)
        try:
            while run.effect is not None:
                if isinstance(run.effect, ItemPage):
                    yield run.effect
                    run.advance(None)
                else:
                    run.advance(io.outcome(run.effect))
        finally:
            run.close()
            io.close()


class _Io:
    """I/O of one call, with at most one open response."""

    def __init__(self, http: httpx.Client, connect_timeout_s: float) -> None:
        self._http = http
        self._connect_timeout_s = connect_timeout_s
        self._open: httpx.Response | None = None
        self._chunks: Iterator[bytes] = iter(())

    def outcome(self, effect: Effect) -> Reply | TransportFailure | bytes | None:
        """Perform an effect and return its outcome."""
        if isinstance(effect, Pause):
            time.sleep(effect.seconds)
            return None
        try:
            return (
                self._exchange(effect) if isinstance(effect, Request) else next(self._chunks, b"")
            )
        except transport.FAILURES as error:
            return transport.failure(error)

    def _exchange(self, request: Request) -> Reply | TransportFailure:
        self.close()
        until_s = None if request.timeout_s is None else time.monotonic() + request.timeout_s
        body: Any = request.body
        http_request = self._http.build_request(
            request.method,
            request.url,
            headers=dict(request.headers),
            content=body() if callable(body) else body,
            timeout=transport.timeouts(request, self._connect_timeout_s),
        )
        response = self._open = self._http.send(http_request, stream=True)
        if request.streamed and response.is_success:
            self._chunks = response.iter_bytes()
            return transport.reply(response, b"")
        received = bytearray()
        for chunk in response.iter_bytes():
            received += chunk
            if until_s is not None and time.monotonic() > until_s:
                return transport.TOO_SLOW
        self.close()
        return transport.reply(response, bytes(received))

    def close(self) -> None:
        """Close the open response, if any."""
        if self._open is not None:
            self._open.close()
            self._open = None


def _items(pages: Generator[ItemPage, None, None]) -> Generator[tuple[Any, Freshness], None, None]:
    """Items with the freshness of their page.

    Not a method of `Items`: a generator that refers to its owner would keep the connection of an
    abandoned iterator until the next garbage collection.
    """
    with closing(pages):
        for page in pages:
            for item in page.items:
                yield item, page.freshness


class Items(Generic[T]):
    """Iterator over the items of a list, with the freshness of the last one.

    To stop early, call `close` or use it as a context manager, which releases the connection.
    """

    def __init__(self, driver: Driver, walk: Walk[T]) -> None:
        self.freshness = Freshness()
        """How fresh the last item is; nothing is known before the first one."""
        self._items: Generator[tuple[T, Freshness], None, None] = _items(driver.pages(walk))

    def __iter__(self) -> Items[T]:
        return self

    def __next__(self) -> T:
        item, self.freshness = next(self._items)
        return item

    def close(self) -> None:
        """Stop iterating and release the connection."""
        self._items.close()

    def __enter__(self) -> Items[T]:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
