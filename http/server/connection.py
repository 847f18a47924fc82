"""One connection of the sidecar: how long it may take for a head, stand still, and stay idle.

aiohttp bounds what a head may hold, and how long a connection stays open between requests. It waits
for ever for a head that does not end, for a client that reads nothing of its answer, and opens as
many connections as come. Bodies have a time of their own (`segments.http.routes.requests`).
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from segments.http.problems import Problem
from segments.http.routing import streaming
from segments.settings import HttpSettings
from segments.telemetry import logs, metrics

LINE_MAX_BYTES = 8_190
HEADERS_MAX = 128
KEEP_ALIVE_S = 300.0
"""A connection on which no request comes for so long is closed."""
STALL_GRACE_S = 1.0
"""Streams have the first word about a client that takes nothing: they say what was broken off."""
PIECE_BYTES = 65_536
"""Who takes less of an answer, in the time in which something has to be taken, is cut off."""
LINGER_S = 1.0
LINGERING_MAX = 100
"""Clients turned away at a time that are given the time to read why."""
_DETAIL_MAX_LENGTH = 200

log = logs.get(__name__)


class Crowd:
    """The open connections of a sidecar; at most `http.max_connections`."""

    def __init__(self, http: HttpSettings) -> None:
        self.http = http
        self._open: dict[Connection, None] = {}
        self.lingering = 0

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Connection) -> bool:
        """Let one more in, in place of the one that has been idle longest where there is no room.

        False when there is none, and nobody is idle.
        """
        if len(self._open) >= self.http.max_connections and not self._close_idle():
            return False
        self._open[connection] = None
        return True

    def leave(self, connection: Connection) -> None:
        self._open.pop(connection, None)

    def _close_idle(self) -> bool:
        spare = [each for each in self._open if each.is_spare]
        if not spare:
            return False
        longest = min(spare, key=lambda each: each.idle_until_s)
        metrics.HTTP_CUT_OFF.labels("crowded").inc()
        self.leave(longest)
        longest.force_close()
        return True


class Connection(web.RequestHandler):
    """aiohttp's connection, with bounds on time and number, and errors in our form."""

    def __init__(self, manager: web.Server, crowd: Crowd, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager,
            loop=loop,
            access_log=cast("Any", None),
            max_line_size=LINE_MAX_BYTES,
            max_field_size=LINE_MAX_BYTES,
            max_headers=HEADERS_MAX,
            # A truncated body would end without a word: who takes gzip unpacks it.
            auto_decompress=False,
            keepalive_timeout=KEEP_ALIVE_S,
        )
        self._crowd = crowd
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_begun = False
        self._answered_count = 0
        self._stall_timer: asyncio.TimerHandle | None = None

    @property
    def is_idle(self) -> bool:
        """Whether no request is in progress. Part of a head may have come."""
        return self._waiter is not None and not self._waiter.done()

    @property
    def is_spare(self) -> bool:
        """Whether every request was answered. What is left of a body may still be on its way."""
        return self._answered_count == self._request_count

    @property
    def idle_until_s(self) -> float:
        """When it would be closed as idle, in the loop's time: the earliest is idle longest."""
        return self._next_keepalive_close_time

    # --- called by the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        if not self._crowd.enter(self):
            refusal = Refusal(self._crowd)
            transport.set_protocol(refusal)
            refusal.connection_made(transport)
            return
        # Whatever is not taken at once counts as waiting for the client.
        transport.set_write_buffer_limits(high=0)
        self._await_head()
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._crowd.leave(self)
        for timer in (self._head_timer, self._stall_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            if self._head_timer is not None:
                self._head_timer.cancel()
                self._head_timer, self._head_begun = None, False
        elif data and self.is_idle and not self._head_begun:
            self._head_begun = True
            if self._head_timer is None:
                self._await_head()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """See aiohttp, which calls it once for each request."""
        finished = await super().finish_response(request, resp, start_time)
        self._answered_count += 1
        return finished

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._await_reader(self.transport)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None

    # --- a head that does not end ---

    def _await_head(self) -> None:
        timeout_s = self._crowd.http.header_timeout_s
        self._head_timer = self._loop.call_later(timeout_s, self._head_overdue)

    def _head_overdue(self) -> None:
        self._head_timer = None
        if self.transport is None or not self.is_idle:
            return
        metrics.HTTP_CUT_OFF.labels("head").inc()
        if self._head_begun:
            # A client that has sent nothing would take it for the answer to its next request.
            timeout_s = self._crowd.http.header_timeout_s
            detail = f"the head of the request did not end within {timeout_s:g} s"
            self.transport.write(raw_answer(Problem(408, "header_timeout", detail)))
        self.force_close()

    # --- an answer that nobody reads ---

    def _await_reader(self, transport: asyncio.Transport) -> None:
        wait_s = streaming.STALL_TIMEOUT_S + STALL_GRACE_S
        left_bytes = transport.get_write_buffer_size()
        self._stall_timer = self._loop.call_later(wait_s, self._stalled, transport, left_bytes)

    def _stalled(self, transport: asyncio.Transport, before_bytes: int) -> None:
        if before_bytes - transport.get_write_buffer_size() >= PIECE_BYTES:
            self._await_reader(transport)
            return
        self._stall_timer = None
        metrics.HTTP_CUT_OFF.labels("stalled").inc()
        transport.abort()

    # --- errors ---

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
            problem = _not_http(status, exc, message or "the request is not HTTP")
        else:
            log.error("request failed", error=repr(exc))
            problem = Problem(500, "internal", "an unexpected error")
        response = problem.response()
        response.force_close()
        return response


def _not_http(status: int, exc: BaseException | None, message: str) -> Problem:
    # Nothing of the head is repeated: there may be credentials in it.
    if isinstance(exc, LineTooLong) or message.startswith("Too many headers"):
        detail = f"a head has at most {HEADERS_MAX} headers, and lines of {LINE_MAX_BYTES} bytes"
        return Problem(431, "head_too_large", detail)
    reason = message.partition("\n")[0].partition(":")[0]
    return Problem(status, "bad_request", reason[:_DETAIL_MAX_LENGTH])


class Refusal(asyncio.Protocol):
    """A connection for which there is no room: it is told so, and closed."""

    def __init__(self, crowd: Crowd) -> None:
        self._crowd = crowd
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)
        metrics.HTTP_CUT_OFF.labels("refused").inc()
        detail = "too many connections are open"
        transport.write(raw_answer(Problem(503, "busy", detail, headers={"Retry-After": "1"})))
        if self._crowd.lingering >= LINGERING_MAX:
            transport.close()
            return
        # Closed at once, with its request unread, the answer would be lost on the way.
        self._crowd.lingering += 1
        transport.write_eof()
        self._timer = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._timer is not None:
            self._crowd.lingering -= 1
            self._timer.cancel()


def raw_answer(problem: Problem) -> bytes:
    """A problem as it goes over the wire, for a connection on which no request was read."""
    response = problem.response()
    body = cast("bytes", response.body)
    response.headers["Content-Length"] = str(len(body))
    response.headers["Connection"] = "close"
    lines = [f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
