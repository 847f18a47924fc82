"""Slow, silent, non-reading, oversized and too many clients, over real sockets."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from segments.http.app import operations
from segments.http.routing import body as request_body
from segments.http.routing import streaming
from segments.http.server import connection, listener
from segments.settings import Settings
from tests.support.raw_connections import HEAD, connected
from tests.support.sidecar import running, store
from tests.support.view.view_records import held

USER = str(UUID(int=1))
DEV = Settings(dev={"enabled": True})
SHORT: dict[str, Any] = {"header_timeout_s": 1.0}
"""Long enough that a busy machine sends a head in time."""
LONG: dict[str, Any] = {"header_timeout_s": 20}
"""No timeout ends a connection within a test."""


async def until(predicate: Callable[[], bool]) -> None:
    """Poll for a condition that cannot be awaited."""
    for _ in range(2_000):
        if predicate():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store(tmp_path, [])
    return tmp_path


# --- heads that do not end ---


async def test_a_silent_client_is_disconnected(folder: Path) -> None:
    async with running(folder, **SHORT) as sidecar, connected(sidecar) as client:
        assert await client.rest() == b"", "without a response: the client may be about to send"


@pytest.mark.parametrize("before", [b"", HEAD + b"\r\n"], ids=["at first", "after a request"])
async def test_a_client_that_sends_its_head_too_slowly_is_disconnected(
    folder: Path, before: bytes
) -> None:
    async with running(folder, **SHORT) as sidecar, connected(sidecar, before) as client:
        if before:
            assert (await client.answer())[0] == 200
        answer = asyncio.create_task(client.answer())
        for byte in HEAD * 1_000:
            client.send(bytes([byte]))
            if await asyncio.wait([answer], timeout=0.1) != (set(), {answer}):
                break
        status, problem = await answer
        assert (status, problem["code"]) == (408, "header_timeout")
        assert await client.rest() == b""


async def test_a_slow_head_within_the_timeout_is_served(folder: Path) -> None:
    async with running(folder, **LONG) as sidecar, connected(sidecar) as client:
        for _ in range(2):
            for start in range(0, len(HEAD), 10):
                client.send(HEAD[start : start + 10])
                await asyncio.sleep(0.01)
            client.send(b"\r\n")
            assert (await client.answer())[0] == 200


async def test_the_head_timeout_does_not_apply_between_requests(folder: Path) -> None:
    """An idle keep-alive connection has its own timeout."""
    async with running(folder, **SHORT) as sidecar, connected(sidecar, HEAD + b"\r\n") as client:
        assert (await client.answer())[0] == 200
        await asyncio.sleep(1.5 * SHORT["header_timeout_s"])
        client.send(HEAD + b"\r\n")
        assert (await client.answer())[0] == 200


async def test_the_head_timeout_does_not_apply_while_a_request_waits(folder: Path) -> None:
    waiting = HEAD.replace(b"/livez", f"/v1/users/{USER}/segments".encode()) + (
        b"Segments-Min-Position: 0:9\r\nPrefer: wait=2\r\n\r\n"
    )
    async with running(folder, **SHORT) as sidecar, connected(sidecar, waiting) as client:
        status, problem = await client.answer()
        assert (status, problem["code"]) == (503, "stale")
        client.send(HEAD + b"\r\n")
        assert (await client.answer())[0] == 200


async def test_the_head_timeout_does_not_apply_to_the_body(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = json.dumps({"segment": "a", "description": "d" * 100}).encode()
    head = b"POST /v1/segments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += b"Prefer: respond-async\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with running(folder, **SHORT) as sidecar, connected(sidecar, head) as client:
        for start in range(0, len(body), 10):
            await asyncio.sleep(0.1)
            client.send(body[start : start + 10])
        assert (await client.answer())[0] == 202
    monkeypatch.setattr(request_body, "BODY_TIMEOUT_S", 0.2)
    async with running(folder, **LONG) as sidecar, connected(sidecar, head) as client:
        client.send(body[:10])
        status, problem = await client.answer()
        assert (status, problem["code"]) == (408, "body_timeout")


# --- heads that are too large ---


@pytest.mark.parametrize(
    "head",
    [
        HEAD + b"Authorization: Bearer " + b"s" * 20_000 + b"\r\n\r\n",
        HEAD.replace(b"/livez", b"/" + b"s" * 20_000) + b"\r\n",
        HEAD + b"A: b\r\n" * 5_000 + b"\r\n",
    ],
)
async def test_heads_are_limited_in_size(folder: Path, head: bytes) -> None:
    async with running(folder) as sidecar, connected(sidecar, head) as client:
        status, problem = await client.answer()
        assert (status, problem["code"]) == (431, "head_too_large")
        assert "sss" not in json.dumps(problem), "the response must not repeat the request"
        assert (await sidecar.get("/livez")).status_code == 200


# --- bodies that are too large ---


async def test_every_route_limits_its_body(folder: Path) -> None:
    """Each responds while most of a gigabyte has not been sent yet."""
    values = {"user_id": USER, "month": "2026-01"}
    async with running(folder) as sidecar:
        for method, route in sorted((o.method, o.path) for o in operations(DEV)):
            path = re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], "x"), route)
            head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nPrefer: respond-async\r\n"
            head += "Content-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n"
            async with connected(sidecar, head.encode() + b" " * 10_000) as client:
                status = await client.status()
            if method in ("POST", "PUT", "PATCH"):
                # 415: an import is a stream; 404: a route that this sidecar does not have.
                assert status in (413, 415, 404), (method, route)
            else:
                assert status in (200, 202, 404), (method, route)


# --- unread responses ---


async def test_a_client_that_reads_no_response_is_disconnected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALL_TIMEOUT_S", 0.2)
    monkeypatch.setattr(connection, "STALL_GRACE_S", 0.1)
    async with running(folder) as sidecar:
        sidecar.user(USER, {f"s{number}": held() for number in range(2_000)})
        request = HEAD.replace(b"/livez", f"/v1/users/{USER}/segments".encode()) + b"\r\n"
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        client.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, ("127.0.0.1", sidecar.port))
        # More than the socket buffers can hold.
        await loop.sock_sendall(client, request * 100)
        assert await ended(client), "it was not cut off"
        client.close()
        assert (await sidecar.get("/livez")).status_code == 200


async def ended(client: socket.socket) -> bool:
    """Whether the peer has closed the connection, without reading from it."""
    for _ in range(1_000):
        await asyncio.sleep(0.02)
        if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            return True
        try:
            client.send(b"\r\n")
        except BlockingIOError:
            continue
        except ConnectionError:
            return True
    return False


async def test_a_slow_reader_gets_the_whole_response(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALL_TIMEOUT_S", 1.5)
    monkeypatch.setattr(connection, "STALL_GRACE_S", 0.0)
    monkeypatch.setattr(connection, "PROGRESS_MIN_BYTES", 1_000)
    async with running(folder) as sidecar:
        sidecar.user(USER, {f"s{number}": held() for number in range(2_000)})
        request = HEAD.replace(b"/livez", f"/v1/users/{USER}/segments".encode()) + b"\r\n"
        async with connected(sidecar, request * 40) as client:
            sizes = set()
            for _ in range(40):
                await asyncio.sleep(0.06)
                status, body = await client.answer()
                assert status == 200
                sizes.add(len(body["segments"]))
            assert sizes == {2_000}


# --- too many connections ---


async def test_an_idle_connection_is_closed_for_a_new_one(folder: Path) -> None:
    async with running(folder, max_connections=2, **LONG) as sidecar, AsyncExitStack() as stack:
        clients = []
        for _ in range(3):
            client = await stack.enter_async_context(connected(sidecar, HEAD + b"\r\n"))
            assert (await client.answer())[0] == 200
            clients.append(client)
        assert await clients[0].rest() == b"", "idle longest"
        for client in clients[1:]:
            client.send(HEAD + b"\r\n")
            assert (await client.answer())[0] == 200


async def test_new_connections_get_503_when_all_are_in_use(folder: Path) -> None:
    busy = HEAD.replace(b"/livez", f"/v1/users/{USER}/segments".encode()) + (
        b"Segments-Min-Position: 0:99\r\nPrefer: wait=20\r\n\r\n"
    )
    async with running(folder, max_connections=2, **LONG) as sidecar:
        async with connected(sidecar, busy) as first, connected(sidecar, busy) as second:
            await until(lambda: sidecar.services.waiters.count == 2)
            for sent in (b"", HEAD + b"\r\n"):
                async with connected(sidecar, sent) as third:
                    status, problem = await third.answer()
                    assert (status, problem["code"]) == (503, "busy")
                    third.close()
            sidecar.user(USER, {})
            sidecar.reach(99)
            assert (await first.answer())[0] == (await second.answer())[0] == 200
            first.send(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await first.answer())[0] == 200
        assert (await sidecar.get("/livez")).status_code == 200


async def test_rejected_connections_leave_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limiters: list[connection.ConnectionLimiter] = []

    class Watched(connection.ConnectionLimiter):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            limiters.append(self)

    monkeypatch.setattr(listener, "ConnectionLimiter", Watched)
    monkeypatch.setattr(connection, "LINGERING_MAX", 5)
    monkeypatch.setattr(connection, "LINGER_S", 0.2)
    busy = HEAD.replace(b"/livez", f"/v1/users/{USER}/segments".encode()) + (
        b"Segments-Min-Position: 0:99\r\nPrefer: wait=20\r\n\r\n"
    )
    async with running(folder, max_connections=1, **LONG) as sidecar:
        [limiter] = limiters
        async with connected(sidecar, busy):
            await until(lambda: sidecar.services.waiters.count == 1)
            away = [await asyncio.open_connection("127.0.0.1", sidecar.port) for _ in range(20)]
            assert limiter.lingering <= 5
            answers = [await asyncio.wait_for(reader.read(), 20) for reader, _ in away]
            assert all(answer.startswith(b"HTTP/1.1 503") for answer in answers)
            await until(lambda: limiter.lingering == 0)
            for _, writer in away:
                writer.close()
        await until(lambda: len(limiter) == 0)
        assert (await sidecar.get("/livez")).status_code == 200
        assert len(limiter) == 1


def test_the_limit_on_open_files_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    set_limits: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4_096))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: set_limits.append(limits))
    for connections in (1_000, 10_000):
        listener._raise_file_limit(connections)
    assert set_limits == [(2_024, 4_096), (4_096, 4_096)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (65_536, 65_536))
    listener._raise_file_limit(1_000)
    assert len(set_limits) == 2
