"""Writes over a connection that loses answers: the running service does each of them once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from segments.client import AsyncSegmentsClient, Retries
from tests.support.api import Api


class Losing:
    """Hands bytes on to a service; of the first connections the answer is lost, once it came."""

    def __init__(self, host: str, port: int, losses: int) -> None:
        self._to = (host, port)
        self.losses = losses
        self.answered = 0
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of a client."""
        service_reader, service_writer = await asyncio.open_connection(*self._to)
        asking = asyncio.create_task(_copied(reader, service_writer))
        try:
            while answer := await service_reader.read(65_536):
                self.answered += 1
                if self.losses:
                    self.losses -= 1
                    writer.transport.abort()
                    return
                writer.write(answer)
                await writer.drain()
        finally:
            asking.cancel()
            service_writer.close()
            writer.close()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()


@asynccontextmanager
async def losing(api: Api, losses: int) -> AsyncIterator[Losing]:
    """Such a connection to the running service."""
    http = api.settings.http
    proxy = Losing(http.host, http.port, losses)
    server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    proxy.url = f"http://{host}:{port}"
    try:
        yield proxy
    finally:
        server.close()


async def test_write_with_lost_responses_is_applied_once(api: Api) -> None:
    user, segment = api.user(), api.segment()
    new = f"once-{uuid.uuid4().hex[:8]}"
    async with losing(api, losses=3) as proxy:
        retries = Retries(attempts=5, backoff_s=0.001)
        async with AsyncSegmentsClient(proxy.url, retries=retries) as client:
            session = client.session()
            result = await session.change(user, add=[segment])
            assert proxy.losses == 0
            assert proxy.answered >= 4
            proxy.losses = 2
            # Made by the first attempt: the second is not refused as a name in use.
            made = await session.create_segment(new)
            assert (made.segment, made.version, proxy.losses) == (new, 1, 0)
            rows = [row async for row in session.history(user)]
    assert [(row.operation, row.command_id) for row in rows] == [("add", result.command_id)]
