"""Streamed reports: slow, stalled and disconnecting clients, and failures while streaming."""

from __future__ import annotations

import asyncio
import gc
import socket
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import pytest

from segments.http.routing import streaming
from segments.settings import Settings
from segments.state.history.protocol import ReportRow, StoreProgress
from segments.state.history.sqlite import database_path
from tests.support.sidecar import Sidecar, assert_problem, entry, running, store, until

USER = str(UUID(int=1))
PATH = "/v1/reports/2025-02.csv"
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
ROWS = 120_000
FIRST_MS = 1_740_000_000_000
LINE_BYTES = len(f"{USER};A;add;2025-02-19T21:20:00.000Z\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store whose report is larger than the socket buffers."""
    folder = tmp_path_factory.mktemp("streams")
    store(folder, [entry(0, n, FIRST_MS + n, USER) for n in range(ROWS)])
    return folder


@pytest.fixture
async def sidecar(folder: Path) -> AsyncIterator[Sidecar]:
    async with running(folder, max_streams=2) as sidecar:
        yield sidecar


def snapshot_open(folder: Path) -> bool:
    """Whether a reader is active: then the write-ahead log cannot be truncated."""
    connection = sqlite3.connect(database_path(Settings(data_dir=folder)), isolation_level=None)
    connection.execute("PRAGMA busy_timeout = 0")
    connection.execute("UPDATE progress SET rows = rows + 1")
    busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    connection.close()
    return bool(busy)


def store_threads() -> int:
    """The number of threads of the store; each open connection has one."""
    return sum("_connection_worker_thread" in thread.name for thread in threading.enumerate())


async def assert_idle(sidecar: Sidecar, folder: Path) -> None:
    """No report has left anything: no stream counted, no snapshot, no thread."""
    await sidecar.get("/readyz")  # the one connection that short questions share
    await until(lambda: sidecar.services.streams.running == 0, "a free place")
    # The reader's, and that of the store of report jobs.
    await until(lambda: store_threads() == 2, "the end of the threads")
    assert not snapshot_open(folder)


async def connect(port: int, receive_bytes: int = 4_096) -> socket.socket:
    """A client with a small receive buffer."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    client.setblocking(False)
    await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    await asyncio.get_running_loop().sock_sendall(client, REQUEST)
    return client


async def receive(client: socket.socket, size: int = 65_536) -> bytes:
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(client, size), 30)


async def receive_all(client: socket.socket, pause_s: float = 0) -> bytes:
    received = bytearray()
    while chunk := await receive(client):
        received += chunk
        if pause_s and len(received) < 200_000:
            await asyncio.sleep(pause_s)
    return bytes(received)


def unchunked(chunks: bytes) -> bytes:
    """The body of a chunked transfer; AssertionError if the last chunk is missing."""
    sent, place = bytearray(), 0
    while True:
        line = chunks.index(b"\r\n", place)
        size = int(chunks[place:line], 16)
        if size == 0:
            break
        sent += chunks[line + 2 : line + 2 + size]
        place = line + 2 + size + 2
    assert chunks[place:] == b"0\r\n\r\n"
    return bytes(sent)


async def test_the_whole_report(sidecar: Sidecar) -> None:
    response = await sidecar.get(PATH)
    assert response.headers["segments-row-count"] == str(ROWS)
    assert len(response.content) == ROWS * LINE_BYTES
    assert "content-length" not in response.headers


async def test_a_client_that_disconnects_leaves_nothing(sidecar: Sidecar, folder: Path) -> None:
    for _ in range(10):
        clients = [await connect(sidecar.port) for _ in range(2)]
        for client in clients:
            assert b"200 OK" in await receive(client)
        assert sidecar.services.streams.running == 2
        assert snapshot_open(folder)
        for client in clients:
            client.close()
        await assert_idle(sidecar, folder)
    assert (await sidecar.get(PATH)).status_code == 200


async def test_a_client_that_disconnects_while_the_store_is_behind(sidecar: Sidecar) -> None:
    sidecar.services.watermark._marks.clear()
    client = await connect(sidecar.port)
    await asyncio.sleep(0.1)
    client.close()
    response = await sidecar.get(PATH, headers={"Prefer": "wait=0"})
    assert_problem(response, 503, "history_behind")
    # The first request may have been read only after its client had disconnected.
    await until(lambda: sidecar.services.streams.running == 0, "a free place")


async def test_concurrent_streams_are_limited(sidecar: Sidecar) -> None:
    clients = [await connect(sidecar.port) for _ in range(2)]
    for client in clients:
        await receive(client)
    response = await sidecar.get(PATH)
    assert_problem(response, 503, "busy")
    assert response.headers["retry-after"] == "5"
    assert (await sidecar.get("/readyz")).status_code == 200
    clients[0].close()
    await until(lambda: sidecar.services.streams.running == 1, "a free place")
    assert (await sidecar.get(PATH)).status_code == 200
    clients[1].close()


async def test_a_stalled_client_is_disconnected(
    sidecar: Sidecar, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "STALL_TIMEOUT_S", 0.3)
    client = await connect(sidecar.port)
    # Receive part of it, so that the stream has started.
    assert await receive(client, 1)
    await assert_idle(sidecar, folder)
    try:
        received = await receive_all(client)
    except ConnectionResetError:
        received = b""
    assert not received.endswith(b"0\r\n\r\n"), "it must not look like the whole"
    client.close()


async def test_a_slow_client_gets_everything(sidecar: Sidecar, folder: Path) -> None:
    client = await connect(sidecar.port)
    head, _, chunks = (await receive_all(client, pause_s=0.02)).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    assert unchunked(chunks).count(b"\n") == ROWS
    client.close()
    await assert_idle(sidecar, folder)


async def test_a_slow_client_that_keeps_reading_is_not_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A whole batch takes far longer than the stall timeout."""
    monkeypatch.setattr(streaming, "STALL_TIMEOUT_S", 1.0)
    taken: list[bytes] = []

    class Slow:
        async def write(self, piece: memoryview) -> None:
            await asyncio.sleep(0.1)
            taken.append(bytes(piece))

    slow: Any = Slow()
    batch = bytes(range(256)) * 5_000
    await streaming._send(slow, batch)
    assert b"".join(taken) == batch
    assert len(taken) > 15


async def test_memory_stays_flat_while_a_client_is_slow(sidecar: Sidecar) -> None:
    await sidecar.get(PATH)
    gc.collect()
    before = psutil.Process().memory_info().rss
    clients = [await connect(sidecar.port) for _ in range(2)]
    for client in clients:
        await receive(client, 4_096)
    await asyncio.sleep(0.5)
    grown = psutil.Process().memory_info().rss - before
    assert grown < 32_000_000, "both reports together are three times that, and more"
    for client in clients:
        client.close()


async def test_head_of_a_report(sidecar: Sidecar) -> None:
    answer = await sidecar.raw(
        REQUEST.replace(b"GET", b"HEAD").replace(b"Connection: close\r\n", b"")
        + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    head, second = answer.split(b"\r\n\r\n", 1)
    assert f"Segments-Row-Count: {ROWS}".encode() in head
    assert b"chunked" not in head
    assert second.startswith(b"HTTP/1.1 200 OK")
    assert sidecar.services.streams.running == 0


async def test_a_report_over_http_1_0(sidecar: Sidecar) -> None:
    """In HTTP/1.0 an aborted transfer looks complete."""
    answer = await sidecar.raw(REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.startswith(b"HTTP/1.0 505 ")
    assert b"application/problem+json" in answer


# --- reports that break ---


class BrokenStore:
    """A store whose report fails after some batches."""

    def __init__(self, end: Callable[[], Any], batches: int = 3) -> None:
        self._end = end
        self._batches = batches
        self.row_count = 1_000_000
        self.open = 0

    async def progress(self) -> dict[int, StoreProgress]:
        return {}

    @asynccontextmanager
    async def report(self, *_period: int, **_filters: Any) -> AsyncIterator[BrokenStore]:
        self.open += 1
        try:
            yield self
        finally:
            self.open -= 1

    async def batches(self) -> AsyncIterator[list[ReportRow]]:
        for _ in range(self._batches):
            yield [(b"\0" * 16, "A", "add", FIRST_MS)] * 5_000
        self._end()

    async def close(self) -> None:
        pass


def _raise() -> None:
    raise RuntimeError("the disk is gone")


@pytest.mark.parametrize("end", [_raise, lambda: None], ids=["an error", "fewer rows"])
@pytest.mark.parametrize("batches", [0, 1, 20])
async def test_a_report_that_fails_aborts_the_transfer(
    tmp_path: Path, end: Callable[[], Any], batches: int
) -> None:
    broken: Any = BrokenStore(end, batches)
    async with running(tmp_path, broken) as sidecar:
        with pytest.raises(httpx.TransportError):
            await sidecar.get(PATH)
        assert (sidecar.services.streams.running, broken.open) == (0, 0)
        assert (await sidecar.get("/livez")).status_code == 200


async def test_a_report_that_cannot_start_is_a_problem(tmp_path: Path) -> None:
    broken: Any = BrokenStore(_raise)
    broken.report = lambda *_args, **_kwargs: _raise()
    async with running(tmp_path, broken) as sidecar:
        assert_problem(await sidecar.get(PATH), 500, "internal")
        assert sidecar.services.streams.running == 0
