"""Raw TCP connections to a sidecar."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.sidecar import Sidecar

HEAD = b"GET /livez HTTP/1.1\r\nHost: x\r\n"


class Client:
    """A connection, with helpers to read HTTP responses."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def answer(self) -> tuple[int, Any]:
        """(status, JSON body) of the next response."""
        head = (await self._within(self._reader.readuntil(b"\r\n\r\n"))).decode().lower()
        length = int(head.partition("content-length: ")[2].partition("\r")[0])
        body = await self._within(self._reader.readexactly(length))
        return int(head.split()[1]), json.loads(body)

    async def status(self) -> int:
        """The status of the next response, whose body is not read."""
        return int((await self._within(self._reader.readuntil(b"\r\n"))).split()[1])

    async def rest(self) -> bytes:
        """All remaining bytes, until the server closes the connection."""
        try:
            return await self._within(self._reader.read())
        except ConnectionResetError:
            return b""

    async def _within(self, waited_for: Any) -> bytes:
        got: bytes = await asyncio.wait_for(waited_for, 30)
        return got

    def close(self) -> None:
        self._writer.close()


@asynccontextmanager
async def connected(sidecar: Sidecar, sent: bytes = b"") -> AsyncIterator[Client]:
    client = Client(*await asyncio.open_connection("127.0.0.1", sidecar.port))
    client.send(sent)
    try:
        yield client
    finally:
        client.close()
