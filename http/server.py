"""The listening socket. What is not HTTP, or breaks on its way out, is a problem as well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from aiohttp import web

from segments import logs
from segments.http.problems import Problem
from segments.settings import HttpSettings

MAX_LINE_BYTES = 8_190
KEEP_ALIVE_S = 300.0
"""A connection on which no request comes for so long is closed."""
SHUTDOWN_S = 10.0
_BACKLOG = 512
_DETAIL_MAX_LENGTH = 200

log = logs.get(__name__)


class Connection(web.RequestHandler):
    """aiohttp's connection, with our form of errors and one line in the log for each."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer where no handler was reached, or none could give its own."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer is on its way already")
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            # What is wrong, and where: up to the first line break.
            detail = (message or "the request is not HTTP").partition("\n")[0]
            problem = Problem(status, "bad_request", detail[:_DETAIL_MAX_LENGTH])
        else:
            log.error("request failed", error=repr(exc))
            problem = Problem(500, "internal", "an unexpected error")
        response = problem.response()
        response.force_close()
        return response


@asynccontextmanager
async def serving(app: web.Application, http: HttpSettings) -> AsyncIterator[int]:
    """The port on which the application is served; OSError when it is taken.

    At the end, requests in progress have SHUTDOWN_S to come to theirs. A handler whose client has
    gone is cancelled.
    """
    runner = web.AppRunner(
        app, access_log=None, handler_cancellation=True, shutdown_timeout=SHUTDOWN_S
    )
    await runner.setup()
    try:
        server = runner.server
        assert server is not None, "it was just set up"
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(
            lambda: Connection(
                server,
                loop=loop,
                access_log=None,  # type: ignore[arg-type]
                max_line_size=MAX_LINE_BYTES,
                # A truncated body would end without a word: who takes gzip unpacks it.
                auto_decompress=False,
                keepalive_timeout=KEEP_ALIVE_S,
            ),
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
