"""Long answers: as fast as the client reads, and visibly broken when they cannot be finished."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping

from aiohttp import HttpVersion11, web

from segments.http.problems import Problem
from segments.telemetry import logs

# A client that takes nothing for this long is gone: what it holds up must be let go.
STALL_TIMEOUT_S = 30.0
NO_SNIFFING = ("X-Content-Type-Options", "nosniff")
"""On every answer: no browser takes names of segments, or a report, for a page or a script."""
_PIECE_BYTES = 65_536

log = logs.get(__name__)


class BrokenOffError(Exception):
    """What is being sent cannot be finished; the message says why."""


def require_chunks(request: web.Request) -> None:
    """Problem 505 for a client that could not tell a broken answer from a whole one."""
    if request.version < HttpVersion11:
        detail = "the answer is sent in chunks, so that a broken one is seen: use HTTP/1.1"
        raise Problem(505, "http_version", detail)


async def stream(
    request: web.Request, headers: Mapping[str, str], chunks: AsyncIterator[bytes]
) -> web.StreamResponse:
    """Send chunks as one body. When they fail, the client sees a broken transfer, never an end."""
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
        raise  # the client is gone
    except Exception as error:
        if isinstance(error, BrokenOffError):
            log.warning("answer broken off", path=request.path, reason=str(error))
        else:
            log.exception("answer aborted", path=request.path)
        # Without the last chunk nobody takes it for a whole one.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("answer aborted") from error
    await response.write_eof()
    return response


async def _send(response: web.StreamResponse, chunk: bytes) -> None:
    # In pieces: a client may be slow, as long as it takes one of them in time.
    pieces = memoryview(chunk)
    for start in range(0, len(pieces), _PIECE_BYTES):
        try:
            async with asyncio.timeout(STALL_TIMEOUT_S):
                await response.write(pieces[start : start + _PIECE_BYTES])
        except TimeoutError:
            raise BrokenOffError(f"the client took nothing for {STALL_TIMEOUT_S:g} s") from None
