"""Writes over a connection that loses responses are applied once."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from segments.client import AsyncSegmentsClient, Retries
from tests.support.api import Api


class LossyProxy:
    """TCP proxy that aborts the first `losses` connections when the response arrives."""

    def __init__(self, host: str, port: int, losses: int) -> None:
        self._service_address = (host, port)
        self.losses = losses
        self.responses = 0
        self.url = ""

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        service_reader, service_writer = await asyncio.open_connection(*self._service_address)
        requests = asyncio.create_task(_copy(reader, service_writer))
        try:
            while chunk := await service_reader.read(65_536):
                self.responses += 1
                if self.losses:
                    self.losses -= 1
                    writer.transport.abort()
                    return
                writer.write(chunk)
                await writer.drain()
        finally:
            requests.cancel()
            service_writer.close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(65_536):
        writer.write(chunk)
        await writer.drain()


@asynccontextmanager
async def lossy_proxy(api: Api, losses: int) -> AsyncIterator[LossyProxy]:
    """Run a lossy proxy of the service."""
    http = api.settings.http
    proxy = LossyProxy(http.host, http.port, losses)
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
    async with lossy_proxy(api, losses=3) as proxy:
        retries = Retries(attempts=5, backoff_s=0.001)
        async with AsyncSegmentsClient(proxy.url, retries=retries) as client:
            session = client.session()
            result = await session.change(user, add=[segment])
            assert proxy.losses == 0
            assert proxy.responses >= 4
            proxy.losses = 2
            # Created by the first attempt; the second is not rejected as `segment_exists`.
            created = await session.create_segment(new)
            assert (created.segment, created.version, proxy.losses) == (new, 1, 0)
            rows = [row async for row in session.history(user)]
    assert [(row.operation, row.command_id) for row in rows] == [("add", result.command_id)]
