"""What both drivers make of httpx: the connection pool's options, replies, failures."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from segments.client.sansio import Reply, Request, TransportFailure

# Nothing that another attempt would mend.
_LASTING = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
FAILURES = (httpx.TransportError, httpx.DecodingError)


def checked_url(base_url: str) -> str:
    """The URL without its last slash; ValueError unless it is one of HTTP."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"base_url is not such as http://127.0.0.1:8080: {base_url!r}")
    return base_url.rstrip("/")


def options(
    connect_timeout_s: float, io_timeout_s: float, connections: int, verify: Any
) -> dict[str, Any]:
    """Arguments for httpx's clients. A redirect is never followed: it may lead the token away."""
    return {
        "timeout": httpx.Timeout(io_timeout_s, connect=connect_timeout_s, pool=io_timeout_s),
        "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        "verify": verify,
        "follow_redirects": False,
    }


def timeouts(request: Request, connect_timeout_s: float) -> httpx.Timeout:
    """How long each step of an exchange may take."""
    read_s = request.read_timeout_s
    return httpx.Timeout(read_s, connect=min(connect_timeout_s, read_s))


def reply(response: httpx.Response, body: bytes) -> Reply:
    """A response as plain data."""
    return Reply(response.status_code, dict(response.headers.items()), body)


def failure(error: Exception) -> TransportFailure:
    """What went wrong, without addresses and headers, which may be secret."""
    name = type(error).__name__
    text = str(error)
    told = f"{name}: {text}" if text and not isinstance(error, httpx.LocalProtocolError) else name
    return TransportFailure(told, not isinstance(error, _LASTING))


TOO_SLOW = TransportFailure("the answer did not come in time")
