"""Request bodies that the handler does not read."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support import credentials
from tests.support.raw_connections import HEAD, connected
from tests.support.sidecar import running, store

POST = b"POST /v1/segments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    store(tmp_path, [])
    return tmp_path


async def test_a_rejected_client_that_keeps_sending_is_disconnected(folder: Path) -> None:
    """Clients without credentials must not use up the connections."""
    unfinished = POST + b"Content-Length: 1000\r\n\r\n{"
    async with (
        running(folder, auth=credentials.KEYS, max_connections=2) as sidecar,
        AsyncExitStack() as stack,
    ):
        refused = []
        for _ in range(2):
            client = await stack.enter_async_context(connected(sidecar, unfinished))
            assert (await client.answer())[0] == 401
            refused.append(client)
        async with connected(sidecar, HEAD + b"\r\n") as client:
            assert (await client.answer())[0] == 200
        assert await refused[0].rest() == b""


async def test_an_unread_body_is_not_taken_for_the_next_request(folder: Path) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n"
    bodies = [
        b"Content-Length: %d\r\n\r\n" % len(hidden) + hidden,
        b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(hidden) + hidden + b"\r\n0\r\n\r\n",
    ]
    async with running(folder, auth=credentials.KEYS) as sidecar:
        for body in bodies:
            async with connected(sidecar, POST + body + HEAD + b"\r\n") as client:
                assert (await client.answer())[0] == 401
                assert await client.answer() == (200, {"status": "alive"})
