"""Asynchronous driver: performs the effects of a call."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
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


class AsyncDriver:
    """Runs steps over one connection pool, in one event loop."""

    def __init__(self, http: httpx.AsyncClient, connect_timeout_s: float) -> None:
        self._http = http
        self._connect_timeout_s = connect_timeout_s

    async def run(self, steps: Steps[T]) -> T:
        """Run the steps and return their result."""
        run, io = Run(steps), _Io(self._http, self._connect_timeout_s)
        try:
            while run.effect is not None:
                run.advance(await io.outcome(run.effect))
            return run.value
        finally:
            run.close()
            await io.close()

    async def pages(self, walk: Walk[T]) -> AsyncGenerator[ItemPage, None]:
        """Yield the pages of a list, each fetched when it is needed."""
        io = _Io(self._http, self._connect_timeout_s)
        run = Run(walk.steps)
        try:
            while run.effect is not None:
                if isinstance(run.effect, ItemPage):
                    yield run.effect
                    run.advance(None)
                else:
                    run.advance(await io.outcome(run.effect))
        finally:
            run.close()
            await io.close()


class _Io:
    """I/O of one call, with at most one open response."""

    def __init__(self, http: httpx.AsyncClient, connect_timeout_s: float) -> None:
        self._http = http
        self._connect_timeout_s = connect_timeout_s
        self._open: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    async def outcome(self, effect: Effect) -> Reply | TransportFailure | bytes | None:
        """Perform an effect and return its outcome."""
        if isinstance(effect, Pause):
            await asyncio.sleep(effect.seconds)
            return None
        try:
            if isinstance(effect, Request):
                return await self._exchange(effect)
            return b"" if self._chunks is None else await anext(self._chunks, b"")
        except transport.FAILURES as error:
            return transport.failure(error)

    async def _exchange(self, request: Request) -> Reply | TransportFailure:
        await self.close()
        until_s = None if request.timeout_s is None else time.monotonic() + request.timeout_s
        body: Any = request.body
        http_request = self._http.build_request(
            request.method,
            request.url,
            headers=dict(request.headers),
            content=_chunks(body()) if callable(body) else body,
            timeout=transport.timeouts(request, self._connect_timeout_s),
        )
        response = self._open = await self._http.send(http_request, stream=True)
        if request.streamed and response.is_success:
            self._chunks = response.aiter_bytes()
            return transport.reply(response, b"")
        received = bytearray()
        async for chunk in response.aiter_bytes():
            received += chunk
            if until_s is not None and time.monotonic() > until_s:
                return transport.TOO_SLOW
        await self.close()
        return transport.reply(response, bytes(received))

    async def close(self) -> None:
        """Close the open response, if any."""
        if self._open is not None:
            await self._open.aclose()
            self._open = None


async def _chunks(body: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Read the chunks of a file outside the event loop."""
    while chunk := await asyncio.to_thread(next, body, b""):
        yield chunk


async def _items(
    pages: AsyncGenerator[ItemPage, None],
) -> AsyncGenerator[tuple[Any, Freshness], None]:
    """Items with the freshness of their page; not a method for the reason in `sync_driver`."""
    async with aclosing(pages):
        async for page in pages:
            for item in page.items:
                yield item, page.freshness


class AsyncItems(Generic[T]):
    """Asynchronous iterator over the items of a list, with the freshness of the last one.

    To stop early, call `aclose` or use it in `async with`, which releases the connection.
    """

    def __init__(self, driver: AsyncDriver, walk: Walk[T]) -> None:
        self.freshness = Freshness()
        """How fresh the last item is; nothing is known before the first one."""
        self._items: AsyncGenerator[tuple[T, Freshness], None] = _items(driver.pages(walk))

    def __aiter__(self) -> AsyncItems[T]:
        return self

    async def __anext__(self) -> T:
        item, self.freshness = await anext(self._items)
        return item

    async def aclose(self) -> None:
        """Stop iterating and release the connection."""
        await self._items.aclose()

    async def __aenter__(self) -> AsyncItems[T]:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()
