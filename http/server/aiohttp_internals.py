"""Every use of aiohttp beyond its public interface, in one module.

aiohttp has no public way to limit the time for a request head, to drop clients that do not read, or
to see which connections are idle. `pyproject.toml` pins the version this was written against, and
test_aiohttp_internals.py fails if the internals of another version differ.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

TOO_MANY_HEADERS = "Too many headers"
"""How the message of aiohttp's parser begins if a head has too many headers."""


def _slot(name: str) -> Any:
    return getattr(web.RequestHandler, name)


class HttpProtocol(web.RequestHandler):
    """aiohttp's server protocol with the state that `Connection` needs under stable names.

    Aliases of slots: reading them costs no call, and a slot that is gone fails the import.
    """

    loop: asyncio.AbstractEventLoop = _slot("_loop")
    requests_received: int = _slot("_request_count")
    idle_until_s: float = _slot("_next_keepalive_close_time")
    """Loop time at which the connection is closed as idle; the earliest has been idle longest."""

    def __init__(
        self,
        server: web.Server,
        loop: asyncio.AbstractEventLoop,
        *,
        line_max_bytes: int,
        headers_max: int,
        keep_alive_s: float,
    ) -> None:
        super().__init__(
            server,
            loop=loop,
            access_log=cast("Any", None),
            max_line_size=line_max_bytes,
            max_field_size=line_max_bytes,
            max_headers=headers_max,
            # aiohttp would end a truncated gzip body without an error: handlers decompress it.
            auto_decompress=False,
            keepalive_timeout=keep_alive_s,
        )
        self.responses_finished = 0

    @property
    def awaits_request(self) -> bool:
        """Whether no request is in progress. Part of a head may have arrived."""
        return self._waiter is not None and not self._waiter.done()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Called by aiohttp once for each request."""
        finished = await super().finish_response(request, resp, start_time)
        self.responses_finished += 1
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Called by aiohttp if no handler was reached, or if a handler failed to respond."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has already been started")
        response = self.error_response(status, exc, message)
        response.force_close()
        return response

    def error_response(
        self, status: int, exc: BaseException | None, message: str | None
    ) -> web.Response:
        """The response to a request that aiohttp could not parse (4xx) or dispatch (5xx)."""
        raise NotImplementedError


class CatchAllResource(web.PlainResource):
    """A resource that matches every path."""

    def _match(self, path: str) -> dict[str, str] | None:  # noqa: ARG002
        return {}


def is_head_too_large(exc: BaseException | None, message: str) -> bool:
    """Whether the parser rejected the size of a request head."""
    return isinstance(exc, LineTooLong) or message.startswith(TOO_MANY_HEADERS)
