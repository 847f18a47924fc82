"""Streams of members: slow, stalled and disconnecting clients, segments deleted meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from segments.http.routes import members
from segments.http.routing import streaming
from segments.state.view.members import IndexedMember
from tests.support.sidecar import NOW_MS, PARTITIONS, Sidecar, assert_problem, running, until
from tests.support.view.view_records import document, held

PATH = "/v1/segments/A/users"
NDJSON = {"Accept": "application/x-ndjson"}
COUNT = 60_000
REQUEST = f"GET {PATH} HTTP/1.1\r\nHost: x\r\nAccept: {NDJSON['Accept']}\r\n\r\n".encode()


def user(number: int) -> str:
    return str(UUID(int=number << 64))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A view with more members than fit into the socket buffers."""
    folder = tmp_path_factory.mktemp("members")

    async def fill() -> None:
        async with running(folder) as sidecar:
            sidecar.define("A")
            with sidecar.fill as batch:
                for number in range(COUNT):
                    batch.user(user(number).encode(), document(user(number), {"A": held()}))

    asyncio.run(fill())
    return folder


@pytest.fixture
async def sidecar(filled: Path) -> AsyncIterator[Sidecar]:
    async with running(filled, max_streams=2) as sidecar:
        yield sidecar


async def connect(sidecar: Sidecar) -> socket.socket:
    """A client with a small receive buffer that has requested all members."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, ("127.0.0.1", sidecar.port))
    await loop.sock_sendall(client, REQUEST)
    return client


async def received(client: socket.socket) -> bytes:
    """All remaining bytes, until the connection is closed or reset."""
    gathered = bytearray()
    with contextlib.suppress(ConnectionResetError):
        while chunk := await asyncio.wait_for(
            asyncio.get_running_loop().sock_recv(client, 1 << 20), 30
        ):
            gathered += chunk
    return bytes(gathered)


async def test_all_members_and_their_count(sidecar: Sidecar) -> None:
    lines = (await sidecar.get(PATH, headers=NDJSON)).text.splitlines()
    assert json.loads(lines[-1]) == {"count": COUNT}
    assert [json.loads(line)["user_id"] for line in lines[:-1]] == [user(n) for n in range(COUNT)]
    assert sidecar.services.streams.running == 0


async def test_a_stalled_client_blocks_no_other_and_is_disconnected(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [await connect(sidecar) for _ in range(2)]
    await until(lambda: sidecar.services.streams.running == 2, "both streams")
    assert_problem(await sidecar.get(PATH, headers=NDJSON), 503, "busy")
    assert len((await sidecar.get(f"{PATH}?limit=7")).json()["items"]) == 7
    for client in clients:
        client.close()
    await until(lambda: sidecar.services.streams.running == 0, "free places")
    monkeypatch.setattr(streaming, "STALL_TIMEOUT_S", 0.3)
    client = await connect(sidecar)
    await until(lambda: sidecar.services.streams.running == 1, "the stream")
    await until(lambda: sidecar.services.streams.running == 0, "the end of it")
    answer = await received(client)
    client.close()
    assert not answer.endswith(b"0\r\n\r\n"), "it must not look like the whole"
    assert b'{"count"' not in answer


@pytest.mark.parametrize("again", [False, True])
async def test_deleting_the_segment_aborts_its_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """HTTP clients detect the incomplete transfer, after the members sent before."""
    first, deleted = threading.Event(), threading.Event()
    encode = members.ndjson

    def waiting(chunk: list[IndexedMember]) -> bytes:
        if first.is_set():
            assert deleted.wait(30)
        first.set()
        return encode(chunk)

    monkeypatch.setattr(members, "ndjson", waiting)
    monkeypatch.setattr(members, "CHUNK_MEMBERS", 2)
    async with running(tmp_path) as sidecar:
        sidecar.define("A")
        for number in range(5):
            sidecar.user(user(number), {"A": held()})
        asking = asyncio.create_task(sidecar.get(PATH, headers=NDJSON))
        await until(first.is_set, "the first chunk")
        sidecar.define("A", 1 + again, "active" if again else "deleted")
        deleted.set()
        with pytest.raises(httpx.RemoteProtocolError):
            await asking
        assert sidecar.services.streams.running == 0


async def test_head_and_http_1_0(sidecar: Sidecar) -> None:
    response = await sidecar.client.head(PATH, headers=NDJSON)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-type"] == "application/x-ndjson; charset=utf-8"
    answer = await sidecar.raw(REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert answer.startswith((b"HTTP/1.0 505", b"HTTP/1.1 505"))
    assert sidecar.services.streams.running == 0


async def test_a_stream_takes_no_page_parameters(sidecar: Sidecar) -> None:
    for query in ("limit=10", "cursor=WzEsIjAwIl0"):
        assert_problem(await sidecar.get(f"{PATH}?{query}", headers=NDJSON), 400, "invalid")
    upper = {"Accept": "TEXT/CSV; charset=utf-8"}
    assert (await sidecar.get(PATH, headers=upper)).text.endswith(f"count;{COUNT}\n")
    anything = {"Accept": "*/*"}
    assert len((await sidecar.get(PATH, headers=anything)).json()["items"]) == 100


async def test_expired_members_are_not_listed(sidecar: Sidecar) -> None:
    sidecar.define("C")
    for number, expires_at in ((0, 1), (1, NOW_MS), (2, 2), (3, None)):
        shown = {"A": held(), "C": held(expires_at=expires_at)}
        sidecar.user(user(number), shown)
    path = "/v1/segments/C/users"
    first = (await sidecar.get(f"{path}?limit=1")).json()
    assert first["items"] == []
    second = (await sidecar.get(f"{path}?limit=2&cursor={first['next']}")).json()
    assert [item["user_id"] for item in second["items"]] == [user(1)]
    third = (await sidecar.get(f"{path}?cursor={second['next']}")).json()
    assert ([item["user_id"] for item in third["items"]], third["next"]) == ([user(3)], None)
    assert (await sidecar.get(path, headers=NDJSON)).text.splitlines()[-1] == '{"count":2}'


async def test_a_sidecar_with_some_partitions_lists_no_members(tmp_path: Path) -> None:
    async with running(tmp_path, partitions=list(range(PARTITIONS - 1))) as sidecar:
        sidecar.define("A")
        for headers in ({}, NDJSON):
            response = await sidecar.get(PATH, headers=headers)
            assert_problem(response, 421, "partition_elsewhere")
