"""A test double of the service that injects faults and records the requests.

Like the service, it decides a command once: a repeated key returns the first outcome.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

USER = "cd613e30-d8f1-4adf-91b7-584a2265b1f5"
AT = "2026-11-24T22:17:45.625Z"
Fault = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


class Double:
    """Each request consumes one of `faults`, before it is handled (None: no fault)."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.faults: list[Fault | None] = []
        self.decided: dict[str, dict[str, Any]] = {}
        self.applied: Counter[str] = Counter()
        self.undecided_polls = 0
        """Number of polls that return `pending` before the result."""
        self.members_body = b""
        self.breaks_streams = False
        """Whether streams are interrupted before their end."""
        self.rows = b""
        self.row_count = 0
        self.link = ""

    def received_keys(self) -> list[str]:
        """The idempotency keys of the requests that had one."""
        return [h["Idempotency-Key"] for _, _, h, _ in self.requests if "Idempotency-Key" in h]

    def decide(self, key: str, **more: Any) -> dict[str, Any]:
        """The result of a command, which is applied only the first time."""
        if key not in self.decided:
            self.applied[key] += 1
            self.decided[key] = {
                "command_id": key,
                "status": "applied",
                "error": None,
                "changes": [],
                "position": f"0:{len(self.decided) + 1}",
                "at": AT,
                **more,
            }
        return self.decided[key]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append((request.method, request.path_qs, dict(request.headers), body))
        if self.faults and (fault := self.faults.pop(0)) is not None:
            response = await fault(request)
            if response is not None:
                return response
        return await self.respond(request)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if request.method == "PATCH":
            return self._write_response(request, self.decide(request.headers["Idempotency-Key"]))
        if path.startswith("/v1/commands/"):
            return self._result_response(path.rpartition("/")[2])
        if path.endswith("/users"):
            return await self._stream(request, self.members_body, {})
        if path == "/v1/reports":
            return _json({"url": self.link or f"{self.url}/v1/reports/2026-11.csv"}, 201)
        if path.endswith(".csv"):
            headers = {"Segments-Row-Count": str(self.row_count)}
            return await self._stream(request, self.rows, headers)
        membership = {"segment": "beta", "since": AT, "expires_at": None, "origin": "command"}
        body = {"user_id": USER, "account": "active", "segments": [membership]}
        headers = {"Segments-Position": "0:7", "Segments-Staleness-Ms": "12"}
        return _json(body, headers=headers)

    def _write_response(self, request: web.Request, result: dict[str, Any]) -> web.Response:
        if self.undecided_polls:
            return _json({"command_id": result["command_id"], "status": "pending"}, 202)
        return _json(result)

    def _result_response(self, command_id: str) -> web.Response:
        if self.undecided_polls:
            self.undecided_polls -= 1
            return _json({"command_id": command_id, "status": "pending"})
        if command_id not in self.decided:
            return problem(404, "command_unknown")
        return _json(self.decided[command_id])

    async def _stream(
        self, request: web.Request, body: bytes, headers: dict[str, str]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(body)
        if self.breaks_streams:
            await reset(request)
        await response.write_eof()
        return response


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, headers=headers, content_type="application/json"
    )


def problem(
    status: int, code: str, headers: dict[str, str] | None = None, **members: Any
) -> web.Response:
    """A problem response (RFC 9457)."""
    body = {"type": f"urn:segments:problem:{code}", "title": "No", "status": status, "code": code}
    response = _json(body | {"detail": "because"} | members, status, headers)
    response.content_type = "application/problem+json"
    return response


def responds(
    status: int, code: str, headers: dict[str, str] | None = None, **members: Any
) -> Fault:
    """A fault that responds with a problem instead of handling the request."""

    async def fault(_request: web.Request) -> web.StreamResponse:
        return problem(status, code, headers, **members)

    return fault


async def reset(request: web.Request) -> None:
    """Reset the connection of a request."""
    await asyncio.sleep(0)
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


@asynccontextmanager
async def serving() -> AsyncIterator[Double]:
    """Run a double on a free loopback port."""
    double = Double()
    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", double.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    double.url = f"http://{host}:{port}"
    try:
        yield double
    finally:
        await runner.cleanup()
