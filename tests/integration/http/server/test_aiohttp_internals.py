"""The contract with aiohttp's internals: fails if another version of aiohttp breaks it."""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from segments.http.server.aiohttp_internals import (
    CatchAllResource,
    HttpProtocol,
    is_head_too_large,
)

ROOT = Path(__file__).resolve().parents[4]
REQUEST = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Observed(HttpProtocol):
    """Keeps the errors that aiohttp hands over."""

    errors: list[tuple[int, BaseException | None, str | None]]

    def error_response(
        self, status: int, exc: BaseException | None, message: str | None
    ) -> web.Response:
        self.errors.append((status, exc, message))
        return web.Response(status=status)


class Served:
    """An aiohttp server on a socket, with the protocol of its newest connection."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.release = asyncio.Event()
        self.port = 0

    async def handle(self, _request: web.BaseRequest) -> web.StreamResponse:
        await self.release.wait()
        return web.Response(text="ok")

    async def exchange(self, sent: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(sent)
            return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        finally:
            writer.close()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    server = web.Server(served.handle)
    loop = asyncio.get_running_loop()

    def connect() -> Observed:
        served.protocol = Observed(
            server, loop, line_max_bytes=200, headers_max=5, keep_alive_s=100.0
        )
        served.protocol.errors = []
        return served.protocol  # type: ignore[no-any-return]

    listener = await loop.create_server(connect, "127.0.0.1", 0)
    served.port = listener.sockets[0].getsockname()[1]
    yield served
    listener.close()
    await server.shutdown(1)


async def until(predicate: Any) -> None:
    for _ in range(2_000):
        if predicate():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("the condition did not become true")


def test_the_installed_version_is_the_pinned_one() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert f"aiohttp=={aiohttp.__version__}" in pyproject["project"]["dependencies"]


def test_no_other_module_uses_internals_of_aiohttp() -> None:
    private = ("web.RequestHandler", "PlainResource", "aiohttp.http_", "aiohttp.web_", "_match(")
    users = {
        path.relative_to(ROOT / "http").as_posix()
        for path in (ROOT / "http").rglob("*.py")
        if any(name in path.read_text(encoding="utf-8") for name in private)
    }
    assert users == {"server/aiohttp_internals.py"}


@pytest.mark.parametrize("name", ["finish_response", "handle_error"])
def test_overridden_methods_have_the_same_parameters(name: str) -> None:
    theirs = inspect.signature(getattr(web.RequestHandler, name))
    ours = inspect.signature(getattr(HttpProtocol, name))
    assert list(theirs.parameters) == list(ours.parameters)
    assert [p.default for p in theirs.parameters.values()] == [
        p.default for p in ours.parameters.values()
    ]


def test_the_catch_all_overrides_what_the_router_calls() -> None:
    assert list(inspect.signature(web.PlainResource._match).parameters) == ["self", "path"]
    assert CatchAllResource("/")._match("/any//path%20") == {}


async def test_requests_and_responses_are_counted(served: Served) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    await until(lambda: served.protocol is not None and served.protocol.awaits_request)
    protocol = served.protocol
    assert (protocol.requests_received, protocol.responses_finished) == (0, 0)
    writer.write(REQUEST[:10])
    await asyncio.sleep(0.02)
    assert protocol.requests_received == 0, "part of a head is no request"
    assert protocol.awaits_request
    writer.write(REQUEST[10:])
    await until(lambda: protocol.requests_received == 1)
    await until(lambda: not protocol.awaits_request)
    assert protocol.responses_finished == 0
    served.release.set()
    await reader.readuntil(b"ok")
    await until(lambda: protocol.awaits_request)
    assert (protocol.requests_received, protocol.responses_finished) == (1, 1)
    writer.close()


async def test_the_idle_deadline_moves_with_each_request(served: Served) -> None:
    served.release.set()
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    await until(lambda: served.protocol is not None and served.protocol.idle_until_s > 0)
    first_s = served.protocol.idle_until_s
    assert 0 < first_s - served.protocol.loop.time() <= 100
    await asyncio.sleep(0.02)
    writer.write(REQUEST)
    await reader.readuntil(b"ok")
    await until(lambda: served.protocol.idle_until_s > first_s)
    writer.close()


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"s" * 400 + b"\r\n\r\n",
        b"GET /" + b"s" * 400 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 20 + b"\r\n",
    ],
    ids=["field", "line", "headers"],
)
async def test_a_large_head_is_recognized(served: Served, head: bytes) -> None:
    assert b" 400 " in await served.exchange(head)
    [(status, exc, message)] = served.protocol.errors
    assert status == 400
    assert is_head_too_large(exc, message or "")


async def test_other_errors_are_not_taken_for_a_large_head(served: Served) -> None:
    await served.exchange(b"not HTTP\r\n\r\n")
    [(status, exc, message)] = served.protocol.errors
    assert status == 400
    assert not is_head_too_large(exc, message or "")
    assert issubclass(LineTooLong, Exception)


async def test_a_handler_that_raises_is_an_error_500(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "release", None)  # the handler raises AttributeError
    assert b" 500 " in await served.exchange(REQUEST)
    [(status, exc, _)] = served.protocol.errors
    assert status == 500
    assert isinstance(exc, AttributeError)


def test_the_aliases_are_slots_of_aiohttp() -> None:
    """An alias of a slot reads the attribute itself; anything else would be a constant."""
    for name in ("loop", "requests_received", "idle_until_s"):
        assert inspect.ismemberdescriptor(inspect.getattr_static(HttpProtocol, name))
