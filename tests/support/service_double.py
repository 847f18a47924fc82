"""A small service that goes wrong as it is told, and remembers what it was sent.

It decides a command once: the same key again gives the first outcome, as the real one does.
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
    """`faults` are used up one a request, before it is handled (None: handle it)."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.faults: list[Fault | None] = []
        self.decided: dict[str, dict[str, Any]] = {}
        self.applied: Counter[str] = Counter()
        self.undecided_polls = 0
        """How often a command is pending before its result is there."""
        self.members_body = b""
        self.members_promise: int | None = None
        self.rows = b""
        self.row_count = 0
        self.link = ""

    def sent_keys(self) -> list[str]:
        """The key of each request that had one."""
        return [h["Idempotency-Key"] for _, _, h, _ in self.requests if "Idempotency-Key" in h]

    def decide(self, key: str, **more: Any) -> dict[str, Any]:
        """The result of a command; it is applied the first time only."""
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
            answer = await fault(request)
            if answer is not None:
                return answer
        return await self.answer(request)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if request.method == "PATCH":
            return self._written(request, self.decide(request.headers["Idempotency-Key"]))
        if path.startswith("/v1/commands/"):
            return self._result(path.rpartition("/")[2])
        if path.endswith("/users"):
            return await self._stream(request, self.members_body, {})
        if path == "/v1/reports":
            return _json({"url": self.link or f"{self.url}/v1/reports/2026-11.csv"}, 201)
        if path.endswith(".csv"):
            headers = {"Segments-Row-Count": str(self.row_count)}
            return await self._stream(request, self.rows, headers)
        held = {"segment": "beta", "since": AT, "expires_at": None, "origin": "command"}
        told = {"user_id": USER, "account": "active", "segments": [held]}
        headers = {"Segments-Position": "0:7", "Segments-Staleness-Ms": "12"}
        return _json(told, headers=headers)

    def _written(self, request: web.Request, result: dict[str, Any]) -> web.Response:
        if self.undecided_polls:
            return _json({"command_id": result["command_id"], "status": "pending"}, 202)
        return _json(result)

    def _result(self, command_id: str) -> web.Response:
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
        if self.members_promise is not None:
            await broken(request)
        await response.write_eof()
        return response


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=orjson.dumps(value), status=status, headers=headers, content_type="application/json"
    )


def problem(
    status: int, code: str, headers: dict[str, str] | None = None, **members: Any
) -> web.Response:
    """An answer that is a problem."""
    told = {"type": f"urn:segments:problem:{code}", "title": "No", "status": status, "code": code}
    response = _json(told | {"detail": "because"} | members, status, headers)
    response.content_type = "application/problem+json"
    return response


def answers(status: int, code: str, headers: dict[str, str] | None = None, **members: Any) -> Fault:
    """The request is not handled: this is answered."""

    async def fault(_request: web.Request) -> web.StreamResponse:
        return problem(status, code, headers, **members)

    return fault


async def broken(request: web.Request) -> None:
    """The connection is broken off, with nothing more said."""
    await asyncio.sleep(0)
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


@asynccontextmanager
async def serving() -> AsyncIterator[Double]:
    """A double on a free port of loopback."""
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
