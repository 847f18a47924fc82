"""A TCP proxy on loopback that can cut or stall connections, or respond itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

_PIECE_BYTES = 65_536


@dataclass
class Proxy:
    """`times`: how often it still fails; `after_bytes`: of requests, before that.

    They are counted for each connection, or with `in_all` for all of them together.
    """

    target: tuple[str, int]
    port: int = 0
    what: str = ""
    after_bytes: int = 0
    times: int = 0
    answer: bytes = b""
    in_all: bool = False
    taken: int = 0
    stalled: asyncio.Event = field(default_factory=asyncio.Event)

    def make(
        self,
        what: str,
        after_bytes: int = 0,
        times: int = 1,
        answer: bytes = b"",
        *,
        in_all: bool = False,
    ) -> None:
        """Fail in this way from now on."""
        self.what, self.after_bytes, self.times, self.answer = what, after_bytes, times, answer
        self.in_all, self.taken = in_all, 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(*self.target)
        answers = asyncio.create_task(self._copy(there, writer))
        taken = 0
        with suppress(ConnectionError):
            while piece := await reader.read(_PIECE_BYTES):
                taken += len(piece)
                self.taken += len(piece)
                if self.times > 0 and (self.taken if self.in_all else taken) > self.after_bytes:
                    self.times -= 1
                    if self.what == "stall":
                        self.stalled.set()
                        await reader.read()
                    elif self.what == "answer":
                        writer.write(self.answer)
                        await writer.drain()
                    break
                back.write(piece)
                await back.drain()
        answers.cancel()
        back.close()
        writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while piece := await reader.read(_PIECE_BYTES):
                writer.write(piece)
                await writer.drain()
            writer.close()


@asynccontextmanager
async def proxy_to(host: str, port: int) -> AsyncIterator[Proxy]:
    """A proxy on a free port."""
    proxy = Proxy((host, port))
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
