"""Streams large responses with backpressure; aborts the connection on failure.

An abort ensures that a truncated body is never mistaken for a complete one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import HttpVersion11, web

from segments.http.problems import Problem
from segments.telemetry import logs

# A client that reads nothing for this long is disconnected, to release what it blocks.
STALL_TIMEOUT_S = 30.0
NO_SNIFFING = ("X-Content-Type-Options", "nosniff")
"""On every response, so that no browser runs segment names or a report as HTML or script."""
_PIECE_BYTES = 65_536

log = logs.get(__name__)


class StreamAbortedError(Exception):
    """A response cannot be completed; the message says why."""


def require_chunked(request: web.Request) -> None:
    """Problem 505 for a client that could not detect a truncated response."""
    if request.version < HttpVersion11:
        detail = "the response is chunked, so that truncation is detected: use HTTP/1.1"
        raise Problem(505, "http_version", detail)


async def stream(
    request: web.Request, headers: Mapping[str, str], chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send chunks as one body; if they fail, the client sees an aborted transfer."""
    response = web.StreamResponse(headers=headers)
    response.headers[NO_SNIFFING[0]] = NO_SNIFFING[1]
    response.enable_chunked_encoding()
    await response.prepare(request)
    if request.method == "HEAD":
        await response.write_eof()
        return response
    try:
        async for chunk in chunks:
            await _send(response, chunk)
    except (ConnectionError, asyncio.CancelledError):
        raise  # the client has disconnected
    except Exception as error:
        if isinstance(error, StreamAbortedError):
            log.warning("response_aborted", path=request.path, reason=str(error))
        else:
            log.exception("response_failed", path=request.path)
        # Without the final chunk no client takes the body for a complete one.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("response aborted") from error
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, chunk: bytes) -> None:
    # In pieces: a client may be slow, as long as it reads one of them in time.
    pieces = memoryview(chunk)
    for start in range(0, len(pieces), _PIECE_BYTES):
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await response.write(pieces[start : start + _PIECE_BYTES])
        except TimeoutError:
            raise StreamAbortedError(f"the client read nothing for {STALL_TIMEOUT_S:g} s") from None
