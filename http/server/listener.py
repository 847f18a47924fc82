"""The listening socket and its file descriptors; `connection.py` limits the connections."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from segments.http.server.connection import Connection, ConnectionLimiter
from segments.settings import HttpSettings
from segments.telemetry import logs

SHUTDOWN_S = 10.0
SPARE_FILES = 1_024
"""File descriptors beside connections: databases, Kafka clients, logs."""
_BACKLOG = 512

log = logs.get(__name__)


@asynccontextmanager
async def serving(app: web.Application, http: HttpSettings) -> AsyncIterator[int]:
    """Serve the application and yield its port; OSError if the port is in use.

    On exit, requests in progress get SHUTDOWN_S to finish. The handler of a client that has
    disconnected is cancelled.
    """
    _raise_file_limit(http.max_connections)
    limiter = ConnectionLimiter(http)
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    try:
        server = runner.server
        assert server is not None, "set up above"
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: Connection(server, limiter, loop),
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


def _raise_file_limit(connections: int) -> None:
    """Raise the soft limit on open files to what the connections and everything else may need."""
    needed = connections + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if limit < needed:
        log.warning(
            "open_files_limit_too_low",
            limit=limit,
            needed=needed,
            hint="lower http.max_connections or raise the hard limit on open files",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
