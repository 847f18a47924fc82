"""Conversions between the client's types and httpx's, for both drivers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from segments.client.sansio import Reply, Request, TransportFailure

# A retry would fail in the same way.
_PERMANENT = (httpx.UnsupportedProtocol, httpx.LocalProtocolError)
FAILURES = (httpx.TransportError, httpx.DecodingError)


def checked_url(base_url: str) -> str:
    """The URL without trailing slashes. ValueError unless it is an HTTP URL without a query."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise ValueError(f"base_url must be a URL such as http://127.0.0.1:8080, not {base_url!r}")
    return base_url.rstrip("/")


def options(
    connect_timeout_s: float, io_timeout_s: float, connections: int, verify: Any
) -> dict[str, Any]:
    """Arguments of httpx's clients. Redirects could leak the token, so they are not followed."""
    return {
        "timeout": httpx.Timeout(io_timeout_s, connect=connect_timeout_s, pool=io_timeout_s),
        "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
        "verify": verify,
        "follow_redirects": False,
    }


def timeouts(request: Request, connect_timeout_s: float) -> httpx.Timeout:
    """Timeouts of one exchange."""
    read_s = request.read_timeout_s
    return httpx.Timeout(read_s, connect=min(connect_timeout_s, read_s))


def reply(response: httpx.Response, body: bytes) -> Reply:
    """Convert a response."""
    return Reply(response.status_code, dict(response.headers.items()), body)


def failure(error: Exception) -> TransportFailure:
    """Describe a failure without addresses and headers, which may be secret."""
    name = type(error).__name__
    text = str(error)
    reason = f"{name}: {text}" if text and not isinstance(error, httpx.LocalProtocolError) else name
    return TransportFailure(reason, not isinstance(error, _PERMANENT))


TOO_SLOW = TransportFailure("no complete response in time")
