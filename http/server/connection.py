"""Client connections: deadlines for request heads and slow readers, and a limit on their number.

aiohttp limits the size of a request head and how long a connection stays open between requests. It
waits without limit for the end of a head and for a client that reads nothing of its response, and
accepts any number of connections. Bodies have deadlines of their own (`http/routing/body.py`).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import cast

from aiohttp import web

from segments.http.problems import Problem
from segments.http.routing import streaming
from segments.http.server.aiohttp_internals import HttpProtocol, is_head_too_large
from segments.settings import HttpSettings
from segments.telemetry import logs, metrics

HEAD_LINE_MAX_BYTES = 8_190
HEADERS_MAX = 128
KEEP_ALIVE_S = 300.0
"""A connection without a request for this long is closed."""
STALL_GRACE_S = 1.0
"""Lets streams detect a stalled client first: they log what was aborted."""
PROGRESS_MIN_BYTES = 65_536
"""A client that reads less than this of a response within the stall timeout is disconnected."""
LINGER_S = 1.0
LINGERING_MAX = 100
"""How many rejected connections at a time are kept open until the client has read why."""
_DETAIL_MAX_LENGTH = 200

log = logs.get(__name__)


class ConnectionLimiter:
    """The open connections of a sidecar; at most `http.max_connections`."""

    def __init__(self, http: HttpSettings) -> None:
        self.http = http
        self._open: dict[Connection, None] = {}
        self.lingering = 0

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection) -> bool:
        """Admit a connection, if necessary by closing the one that has been idle longest.

        False if the limit is reached and no connection is idle.
        """
        if len(self._open) >= self.http.max_connections and not self._close_idle():
            return False
        self._open[connection] = None
        return True

    def leave(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def _close_idle(self) -> bool:
        idle = [connection for connection in self._open if connection.is_idle]
        if not idle:
            return False
        longest = min(idle, key=lambda connection: connection.idle_until_s)
        metrics.HTTP_CUT_OFF.labels("crowded").inc()
        self.leave(longest)
        longest.force_close()
        return True


class Connection(HttpProtocol):
    """A connection with limits on time and number, and errors as problem details."""

    def __init__(
        self, server: web.Server, limiter: ConnectionLimiter, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            server,
            loop,
            line_max_bytes=HEAD_LINE_MAX_BYTES,
            headers_max=HEADERS_MAX,
            keep_alive_s=KEEP_ALIVE_S,
        )
        self._limiter = limiter
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_begun = False
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether every request has its response. The rest of an unread body may still arrive."""
        return self.responses_finished == self.requests_received

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        if not self._limiter.enter(self):
            overload = OverloadProtocol(self._limiter)
            transport.set_protocol(overload)
            overload.connection_made(transport)
            return
        # Any unsent byte pauses writing, so that the stall timer sees it.
        transport.set_write_buffer_limits(high=0)
        self._start_head_timer()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._limiter.leave(self)
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.requests_received
        super().data_received(data)
        if self.requests_received != before:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer, self._head_begun = None, False
        elif data and self.awaits_request and not self._head_begun:
            self._head_begun = True
            if self._head_timer is None:
                self._start_head_timer()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._start_stall_timer(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    # --- request heads that do not end ---

    def _start_head_timer(self) -> None:
        timeout_s = self._limiter.http.header_timeout_s
        self._head_timer = self.loop.call_later(timeout_s, self._head_overdue)

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self.transport is None or not self.awaits_request:
            return
        metrics.HTTP_CUT_OFF.labels("head").inc()
        if self._head_begun:
            # A client that has sent nothing would take it for the response to its next request.
            timeout_s = self._limiter.http.header_timeout_s
            detail = f"the request head did not end within {timeout_s:g} s"
            self.transport.write(raw_response(Problem(408, "header_timeout", detail)))
        self.force_close()

    # --- responses that the client does not read ---

    def _start_stall_timer(self, transport: asyncio.Transport) -> None:
        timeout_s = streaming.STALL_TIMEOUT_S + STALL_GRACE_S
        unsent_bytes = transport.get_write_buffer_size()
        self._stall_timer = self.loop.call_later(timeout_s, self._stalled, transport, unsent_bytes)

    def _stalled(self, transport: asyncio.Transport, before_bytes: int) -> None:
        if before_bytes - transport.get_write_buffer_size() >= PROGRESS_MIN_BYTES:
            self._start_stall_timer(transport)
            return
        self._stall_timer = None
        metrics.HTTP_CUT_OFF.labels("stalled").inc()
        transport.abort()

    # --- errors outside of handlers ---

    def error_response(
        self, status: int, exc: BaseException | None, message: str | None
    ) -> web.Response:
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return _parse_problem(
                status, exc, message or "the request is not valid HTTP"
            ).response()
        log.error("request_failed", error=repr(exc))
        return Problem(500, "internal", "an unexpected error").response()


def _parse_problem(status: int, exc: BaseException | None, message: str) -> Problem:
    # Nothing of the head is repeated: it may contain credentials.
    if is_head_too_large(exc, message):
        detail = (
            f"a request head has at most {HEADERS_MAX} headers and lines of at most "
            f"{HEAD_LINE_MAX_BYTES} bytes"
        )
        return Problem(431, "head_too_large", detail)
    reason = message.partition("\n")[0].partition(":")[0]
    return Problem(status, "bad_request", reason[:_DETAIL_MAX_LENGTH])


class OverloadProtocol(asyncio.Protocol):
    """Answers a connection beyond the limit with 503 `busy` and closes it."""

    def __init__(self, limiter: ConnectionLimiter) -> None:
        self._limiter = limiter
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        metrics.HTTP_CUT_OFF.labels("refused").inc()
        detail = "too many connections are open"
        transport.write(raw_response(Problem(503, "busy", detail, headers={"Retry-After": "1"})))
        if self._limiter.lingering >= LINGERING_MAX:
            transport.close()
            return
        # Closing with the request unread would reset the connection and lose the response.
        self._limiter.lingering += 1
        transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._timer is not None:
            self._limiter.lingering -= 1
            self._timer.cancel()


def raw_response(problem: Problem) -> bytes:
    """A problem as bytes on the wire, for a connection on which no request was read."""
    response = problem.response()
    body = cast("bytes", response.body)
    response.headers["Content-Length"] = str(len(body))
    response.headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
