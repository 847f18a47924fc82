"""Malformed requests: a problem response or a closed connection, and no side effects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from segments.state.view.responses import StoredResponse
from tests.support.sidecar import Sidecar, assert_problem, running

USER = "00000000-0000-0000-0000-000000000001"


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with running(tmp_path) as sidecar:
        yield sidecar


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """(status, headers, body) of the first response in these bytes."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split()[1]), headers, body


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 this is TLS\r\n\r\n",
        b"hello\r\n\r\n",
        b"GET /livez HTTP/9.9\r\n\r\n",
        b"G=T /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nbroken header\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nA: b\x00c\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        (
            b"POST /v1/segments HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Length: 3\r\n\r\n0\r\n\r\n"
        ),
    ],
)
async def test_malformed_requests_are_problems(sidecar: Sidecar, request_bytes: bytes) -> None:
    status, headers, body = parsed(await sidecar.raw(request_bytes))
    assert status == 400
    assert headers["content-type"] == "application/problem+json"
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "bad_request")
    assert len(problem["detail"]) <= 200
    assert (await sidecar.get("/livez")).status_code == 200


async def test_a_truncated_chunked_body_writes_no_command(sidecar: Sidecar) -> None:
    answer = await sidecar.raw(
        b"POST /v1/segments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"
    )
    assert parsed(answer)[0] == 400
    assert sidecar.producer.sent == []


async def test_line_breaks_never_reach_a_header(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever their source, the response is not sent."""

    def answer(_user_id: str, _now_ms: int) -> StoredResponse:
        return StoredResponse(0, "a\r\nSet-Cookie: x", b"{}")

    monkeypatch.setattr(sidecar.services.view, "response", answer)
    request = f"GET /v1/users/{USER}/segments HTTP/1.1\r\nHost: x\r\n\r\n"
    assert await sidecar.raw(request.encode()) == b""
    assert (await sidecar.get("/livez")).status_code == 200


async def test_errors_below_a_handler_are_problems(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(_user_id: str, _now_ms: int) -> StoredResponse:
        raise ConnectionResetError("secret")

    monkeypatch.setattr(sidecar.services.view, "response", answer)
    response = await sidecar.get(f"/v1/users/{USER}/segments")
    assert_problem(response, 500, "internal", detail="an unexpected error")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/users/%00/segments", 400),
        (f"/v1/users/{USER}%00/segments", 400),
        ("/v1/users/%ff%fe/segments", 400),
        ("/v1/users/%0a/segments", 400),
        ("/v1/users/../segments", 400),
        ("/v1/users//segments", 404),
        (f"/v1/users/{USER}/segments/", 404),
        (f"/v1//users/{USER}/segments", 404),
        (f"/v1/users/{USER}/segments/%E0%A4%A", 400),
        (f"/v1/users/{USER}/segments/A%2FB", 400),
        ("/v1/segments/%00", 400),
        ("/v1/segments/..", 400),
        ("/v1/segments/%2e%2e%2f", 400),
        ("/v1/segments/a%0d%0aSet-Cookie:%20x", 400),
        ("/v1/segments/" + "a" * 129, 400),
        ("/v1/segments/%F0%9F%98%80", 400),
        ("/v1/segments/e%CC%81", 400),
        ("/v1/segments/unknown", 404),
        ("/v1/commands/%00", 404),
        ("/v1/commands/%ff", 404),
        ("/v1/commands/a%2Fb", 404),
        ("/v1/commands/" + "a" * 5_000, 404),
        ("/v1/reports/%00.csv", 400),
        ("/v1/reports/2026-01%0a.csv", 400),
        ("/v1/reports/..%2f2026-01.csv", 400),
        ("/v1/reports/\u0662\u0660\u0662\u0666-01.csv", 400),
        ("/%00", 404),
        ("/%", 404),
        ("//", 404),
        ("/v1/segments?limit=%00", 400),
        ("/v1/segments?%00=1", 400),
        ("/v1/segments?cursor=%ff", 400),
        ("/v1/segments?limit=1&limit=1", 400),
        ("/v1/segments?", 200),
    ],
)
async def test_unusual_paths(sidecar: Sidecar, path: str, status: int) -> None:
    answer = await sidecar.raw(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    )
    found, headers, body = parsed(answer)
    assert found == status, body
    wanted = "application/json" if status == 200 else "application/problem+json"
    assert headers["content-type"] == wanted
    assert "set-cookie" not in headers
    assert json.loads(body)


async def test_header_values_that_are_not_utf8_are_rejected(sidecar: Sidecar) -> None:
    """Bytes that are not UTF-8 cannot be returned in a Location header."""
    answer = await sidecar.raw(
        b"PATCH /v1/segments/A HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Idempotency-Key: \xff\xfe\r\nPrefer: respond-async\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\n{}"
    )
    status, _, body = parsed(answer)
    assert (status, json.loads(body)["code"]) == (400, "invalid")
    assert sidecar.producer.sent == []


async def test_pipelined_requests_are_answered_in_order(sidecar: Sidecar) -> None:
    answer = await sidecar.raw(
        b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n"
        b"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"404"]
    assert answer.count(b"alive") == 1


async def test_an_unfinished_request_blocks_no_other(sidecar: Sidecar) -> None:
    writers = []
    for _ in range(50):
        _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(b"POST /v1/segments HTTP/1.1\r\nHost: x\r\nContent-Le")
        writers.append(writer)
    assert (await sidecar.get("/livez")).status_code == 200
    for writer in writers:
        writer.close()


async def test_http_1_0(sidecar: Sidecar) -> None:
    status, headers, body = parsed(await sidecar.raw(b"GET /livez HTTP/1.0\r\n\r\n"))
    assert (status, json.loads(body)) == (200, {"status": "alive"})
    assert headers["content-length"] == str(len(body))


async def test_unknown_methods(sidecar: Sidecar) -> None:
    response = await sidecar.client.request("PROPFIND", "/livez")
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET,HEAD"
    assert_problem(await sidecar.client.request("PROPFIND", "/nothing"), 404, "not_found")
