"""The listening socket, and room for what comes in over it."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from segments.http.server.connection import Connection, Crowd
from segments.settings import HttpSettings
from segments.telemetry import logs

SHUTDOWN_S = 10.0
SPARE_FILES = 1_024
"""Beside connections: databases, clients of Kafka, logs."""
_BACKLOG = 512

log = logs.get(__name__)


@asynccontextmanager
async def serving(app: web.Application, http: HttpSettings) -> AsyncIterator[int]:
    """The port on which the application is served; OSError when it is taken.

    At the end, requests in progress have SHUTDOWN_S to come to theirs. A handler whose client has
    gone is cancelled.
    """
    _make_room(http.max_connections)
    crowd = Crowd(http)
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    try:
        server = runner.server
        assert server is not None, "it was just set up"
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: Connection(server, crowd, loop),
            http.host,
            http.port,
            backlog=_BACKLOG,
        )
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
    finally:
        await runner.cleanup()


def _make_room(connections: int) -> None:
    """Let the process open as many files as its connections and all else may need."""
    wanted = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if most < wanted:
        log.warning("fewer files can be open than http.max_connections may need", files=most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
