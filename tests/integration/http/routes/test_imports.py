"""POST /dev/users/import: formats, limits, slow clients and disconnects, without Kafka."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest

from segments.http.routes import imports
from tests.support.sidecar import Sidecar, assert_problem, running

PATH = "/dev/users/import"
CSV = {"Content-Type": "text/csv"}
NDJSON = {"Content-Type": "application/x-ndjson"}
MARK = b"\xef\xbb\xbf"
USERS = [str(UUID(int=number)) for number in range(5)]


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with running(tmp_path, max_streams=2) as sidecar:
        yield sidecar


async def post(sidecar: Sidecar, body: Any, headers: dict[str, str]) -> httpx.Response:
    return await sidecar.client.post(PATH, content=body, headers=headers)


def imported(sidecar: Sidecar) -> list[tuple[str, str]]:
    return [(key, value["state"]) for key, value in sidecar.producer.sent]


def line(user: str, state: str = "active") -> bytes:
    return json.dumps({"user_id": user, "state": state}).encode()


@pytest.mark.parametrize("mark", [b"", MARK])
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("kind", ["csv", "header", "ndjson"])
async def test_byte_order_marks_line_ends_and_headers(
    sidecar: Sidecar, mark: bytes, ending: bytes, last: bool, kind: str
) -> None:
    if kind == "ndjson":
        lines = [line(user) for user in USERS]
    else:
        lines = [f"{user} ; active".encode() for user in USERS]
        lines = [b"User_ID; state", *lines] if kind == "header" else lines
    body = mark + ending.join([*lines[:2], b"", *lines[2:]]) + (ending if last else b"")
    response = await post(sidecar, body, NDJSON if kind == "ndjson" else CSV)
    assert response.json() == {"accepted": 5, "refused": 0, "errors": []}
    assert imported(sidecar) == [(user, "active") for user in USERS]


async def test_invalid_lines_are_rejected_with_their_line_number(sidecar: Sidecar) -> None:
    lines = [
        "user_id;state",
        f"{USERS[0]};active",
        "user_id;state",  # of a second file, behind the first
        f'"{USERS[1]}";"active"',
        f"{USERS[1]};active;more",
        f"{USERS[1]}",
        f"{USERS[1]};",
        f"{USERS[1]};unknown",
        f"{USERS[2]},blocked",
    ]
    counts = (await post(sidecar, "\n".join(lines), CSV)).json()
    assert (counts["accepted"], counts["refused"]) == (2, 6)
    assert [error["line"] for error in counts["errors"]] == [3, 4, 5, 6, 7, 8]
    assert {error["field"] for error in counts["errors"][2:]} == {"state"}
    assert imported(sidecar) == [(USERS[0], "active"), (USERS[2], "blocked")]


@pytest.mark.parametrize("body", [b"", b"\n\r\n", b"user_id;state", MARK])
async def test_an_empty_body_imports_nothing(sidecar: Sidecar, body: bytes) -> None:
    response = await post(sidecar, body, CSV)
    assert response.json() == {"accepted": 0, "refused": 0, "errors": []}


async def test_lines_of_the_maximum_length_in_chunks_of_any_size(sidecar: Sidecar) -> None:
    most = imports.IMPORT_LINE_MAX_BYTES
    exact = line(USERS[0]) + b" " * (most - len(line(USERS[0])))
    body = (
        exact + b"\n" + exact + b" \n" + b"x" * 3 * most + line(USERS[1]) + b"\n" + line(USERS[2])
    )

    async def pieces(size: int) -> AsyncIterator[bytes]:
        for start in range(0, len(body), size):
            yield body[start : start + size]

    for size in (1_000, most - 1, most, most + 1, len(body)):
        sidecar.producer.sent.clear()
        counts = (await post(sidecar, pieces(size), NDJSON)).json()
        assert (counts["accepted"], counts["refused"]) == (2, 2)
        assert [error["line"] for error in counts["errors"]] == [2, 3]
        assert [user for user, _ in imported(sidecar)] == [USERS[0], USERS[2]]


async def test_all_errors_are_counted_and_the_first_are_listed(sidecar: Sidecar) -> None:
    body = b"no user\n" * 50_000
    tracemalloc.start()
    counts = (await post(sidecar, body, NDJSON)).json()
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (counts["accepted"], counts["refused"]) == (0, 50_000)
    assert [error["line"] for error in counts["errors"]] == list(range(1, 101))
    assert peak_bytes < 10_000_000


async def test_a_decompression_bomb_does_not_block_other_requests(sidecar: Sidecar) -> None:
    """200 kB that decompress to one line of 200 MB, then a user."""
    body = gzip.compress(b"x" * 200_000_000 + b"\n" + line(USERS[0]))
    importing = asyncio.create_task(post(sidecar, body, NDJSON | {"Content-Encoding": "gzip"}))
    answered = 0
    while not importing.done():
        answered += (await sidecar.get("/livez")).status_code == 200
    counts = importing.result().json()
    assert (counts["accepted"], counts["refused"]) == (1, 1)
    assert answered > 3


# --- clients ---


async def open_import(sidecar: Sidecar, head: bytes) -> Any:
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(f"POST {PATH} HTTP/1.1\r\nHost: x\r\n".encode())
    writer.write(b"Content-Type: application/x-ndjson\r\n" + head + b"\r\n\r\n")
    return reader, writer


async def ended(sidecar: Sidecar) -> None:
    while sidecar.services.streams.running:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


async def begun(sidecar: Sidecar, records: int) -> None:
    while len(sidecar.producer.sent) < records:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, dict[str, Any]]:
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    return int(head.split()[1]), json.loads(await reader.readexactly(length))


@pytest.mark.parametrize("drips", [True, False])
async def test_a_client_that_sends_too_slowly_is_disconnected(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch, drips: bool
) -> None:
    monkeypatch.setattr(imports, "IDLE_TIMEOUT_S", 0.5)
    monkeypatch.setattr(imports, "MIN_BYTES_PER_S", 1_000_000)
    reader, writer = await open_import(sidecar, b"Content-Length: 1000000")
    writer.write(line(USERS[0]) + b"\n")
    answer = asyncio.create_task(answer_of(reader))
    while not answer.done():
        if drips:
            writer.write(b" ")
        await asyncio.sleep(0.02)
    status, problem = answer.result()
    assert (status, problem["code"], problem["accepted"]) == (400, "bad_body", 1)
    await ended(sidecar)
    writer.close()
    assert imported(sidecar) == [(USERS[0], "active")]


async def test_a_slow_but_steady_client_is_not_disconnected(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far longer in total than the timeout for each chunk."""
    monkeypatch.setattr(imports, "IDLE_TIMEOUT_S", 1.0)
    monkeypatch.setattr(imports, "MIN_BYTES_PER_S", 100)

    async def pieces() -> AsyncIterator[bytes]:
        for number in range(60):
            yield line(str(UUID(int=number))) + b"\n"
            await asyncio.sleep(0.05)

    assert (await post(sidecar, pieces(), NDJSON)).json()["accepted"] == 60


async def test_a_client_that_disconnects_releases_its_import(sidecar: Sidecar) -> None:
    for number in range(1, 6):
        _, writer = await open_import(sidecar, b"Content-Length: 1000000")
        writer.write(line(USERS[0]) + b'\n{"user_id": "')
        await begun(sidecar, number)
        assert sidecar.services.streams.running == 1
        writer.close()
        await ended(sidecar)
    assert imported(sidecar) == [(USERS[0], "active")] * 5


async def test_invalid_chunks_are_a_problem(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "IDLE_TIMEOUT_S", 0.5)
    body = line(USERS[0]) + b"\n"
    reader, writer = await open_import(sidecar, b"Transfer-Encoding: chunked")
    writer.write(b"%x\r\n%s\r\n" % (len(body), body))
    await begun(sidecar, 1)
    writer.write(b"nonsense\r\n")
    status, problem = await answer_of(reader)
    assert (status, problem["code"], problem["accepted"]) == (400, "bad_body", 1)
    writer.close()
    await ended(sidecar)


async def test_concurrent_imports_are_limited(sidecar: Sidecar) -> None:
    writers = []
    for number in (1, 2):
        _, writer = await open_import(sidecar, b"Content-Length: 1000000")
        writer.write(line(USERS[0]) + b"\n")
        await begun(sidecar, number)
        writers.append(writer)
    response = await post(sidecar, line(USERS[0]), NDJSON)
    assert_problem(response, 503, "busy")
    assert response.headers["retry-after"] == "5"
    for writer in writers:
        writer.close()
    await ended(sidecar)
    assert (await post(sidecar, line(USERS[0]), NDJSON)).status_code == 200


async def test_a_failed_write_to_kafka_asks_for_the_whole_body_again(sidecar: Sidecar) -> None:
    sidecar.producer.lost_after = 3
    body = b"\n".join(line(user) for user in USERS)
    assert_problem(await post(sidecar, body, NDJSON), 503, "kafka_unavailable")
    assert sidecar.services.streams.running == 0
    sidecar.producer.lost_after = None
    assert (await post(sidecar, body, NDJSON)).json()["accepted"] == 5
