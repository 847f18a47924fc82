"""Bounds of waits, queues and bodies, and the problems returned when they are exceeded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from segments.contracts.positions import Position
from segments.http.routes import history, memberships
from segments.http.routing import body as request_body
from segments.http.routing.query import encode_cursor
from tests.support.sidecar import NOW_MS, Sidecar, assert_problem, entry, running, store
from tests.support.view.view_records import held, result

USER = str(UUID(int=1))
CHANGE = {"add": ["A"]}
PATH = f"/v1/users/{USER}/segments"


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    store(tmp_path, [])
    async with running(tmp_path, max_waiters=3, max_wait_s=20) as sidecar:
        yield sidecar


def applied(position: str | None = "0:1", **fields: Any) -> Any:
    """A decision for FakeProducer: every command is applied at this position."""

    def decide(command: dict[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = orjson.loads(result(command["id"], position=position))
        return made | fields

    return decide


# --- waits ---


async def test_waiters_beyond_the_limit_get_503(sidecar: Sidecar) -> None:
    future = {"Segments-Min-Position": "0:99", "Prefer": "wait=20"}
    waiting = [asyncio.create_task(sidecar.get(PATH, headers=future)) for _ in range(3)]
    while sidecar.services.waiters._count < 3:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    response = await sidecar.get(PATH, headers=future)
    assert_problem(response, 503, "busy")
    assert response.headers["retry-after"] == "1"
    response = await sidecar.get("/v1/commands/c", headers={"Prefer": "wait=20"})
    assert_problem(response, 503, "busy")
    sidecar.user(USER, {})
    sidecar.reach(99)
    assert [(await task).status_code for task in waiting] == [200] * 3
    assert sidecar.services.waiters._count == 0


async def test_an_applied_command_is_not_rejected_when_waiters_are_full(
    sidecar: Sidecar,
) -> None:
    sidecar.producer.decide = applied("0:99")
    sidecar.services.waiters._count = 3
    response = await sidecar.client.patch(PATH, json=CHANGE)
    assert (response.status_code, response.json()["status"]) == (200, "applied")
    sidecar.services.waiters._count = 0


async def test_disconnected_clients_stop_waiting(sidecar: Sidecar) -> None:
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
        writer.write(
            f"GET {PATH} HTTP/1.1\r\nHost: x\r\nSegments-Min-Position: 1:9999\r\n"
            "Prefer: wait=20\r\n\r\n".encode()
        )
        await writer.drain()
        while sidecar.services.waiters._count < 1:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)
        writer.close()
        while sidecar.services.waiters._count:  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.01)


async def test_several_positions_share_one_wait(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that the first wait took is subtracted from the second."""
    waits = []

    async def wait_for_position(position: Position, wait_s: float) -> bool:
        waits.append(wait_s)
        await asyncio.sleep(0.05)
        return position.partition == 0

    monkeypatch.setattr(sidecar.services.waiters, "wait_for_position", wait_for_position)
    headers = {"Segments-Min-Position": "0:50,1:999", "Prefer": "wait=20"}
    assert_problem(await sidecar.get(PATH, headers=headers), 503, "stale")
    assert waits[0] <= 20
    assert waits[1] <= waits[0] - 0.05


async def test_a_pending_command_is_waited_for_only_with_prefer_wait(sidecar: Sidecar) -> None:
    expected: list[str] = []
    expect_result = sidecar.services.waiters.expect_result

    def expecting(command_id: str) -> Any:
        expected.append(command_id)
        return expect_result(command_id)

    sidecar.services.waiters.expect_result = expecting  # type: ignore[method-assign] # watched
    for headers in ({}, {"Prefer": "respond-async"}):
        response = await sidecar.get("/v1/commands/c", headers=headers)
        assert_problem(response, 404, "command_unknown")
    assert expected == []
    response = await sidecar.get("/v1/commands/c", headers={"Prefer": "wait=0"})
    assert_problem(response, 404, "command_unknown")
    assert expected == ["c"]


@pytest.mark.parametrize(
    ("prefer", "wait_s"),
    [
        ("wait=7", 7.0),
        ("WAIT=7", 7.0),
        ("wait = 7", 7.0),
        ('wait="7"', 7.0),
        ("handling=lenient, wait=7", 7.0),
        ("wait=100000", 20.0),
        ("wait=0", 0.0),
        ("wait=-1", 5.0),
        ("wait=1e3", 5.0),
        ("wait=", 5.0),
        ("wait=\u0667", 5.0),
        ("nonsense", 5.0),
    ],
)
async def test_preferences(
    sidecar: Sidecar, prefer: str, wait_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = []

    async def wait_for_position(_position: Position, wait_s: float) -> bool:
        waits.append(wait_s)
        return False

    monkeypatch.setattr(sidecar.services.waiters, "wait_for_position", wait_for_position)
    headers = {b"Segments-Min-Position": b"0:99", b"Prefer": prefer.encode()}
    assert_problem(await sidecar.get(PATH, headers=headers), 503, "stale")
    assert waits == [pytest.approx(wait_s, abs=0.5)]


async def test_a_body_that_does_not_arrive(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_body, "BODY_TIMEOUT_S", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", sidecar.port)
    writer.write(
        b"POST /v1/segments HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    answer = await asyncio.wait_for(reader.readuntil(b'"}'), 20)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"body_timeout"' in answer
    writer.close()
    assert sidecar.producer.sent == []


@pytest.mark.parametrize("place", [[1, "zz"], [1, "0" * 31], [1, "../"], ["1", "0" * 32], [1]])
async def test_an_invalid_cursor_of_the_members(sidecar: Sidecar, place: list[Any]) -> None:
    sidecar.define("A")
    params = {"cursor": encode_cursor(place)}
    assert_problem(await sidecar.get("/v1/segments/A/users", params=params), 400, "invalid")
    params = {"cursor": encode_cursor([1, "0" * 32])}
    assert (await sidecar.get("/v1/segments/A/users", params=params)).status_code == 200


async def test_a_large_memberships_query_is_streamed(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memberships, "WHOLE_MAX_BYTES", 100_000)
    users = [str(UUID(int=n)) for n in range(1, 201)]
    for number, user in enumerate(users):
        sidecar.user(user, {f"segment-{n}": held() for n in range(number % 3 * 100)})
    asked = {"user_ids": [*users, str(UUID(int=999))]}
    response = await sidecar.client.post("/v1/memberships/query", json=asked)
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.headers["segments-position"] == "0:1,1:1"
    assert response.headers["content-type"] == "application/json"
    items = response.json()["items"]
    assert [item["user_id"] for item in items] == asked["user_ids"]
    assert [len(item["segments"]) for item in items[:-1]] == [n % 3 * 100 for n in range(200)]
    assert items[-1]["error"] == "user_unknown"
    monkeypatch.setattr(memberships, "WHOLE_MAX_BYTES", 100_000_000)
    whole = await sidecar.client.post("/v1/memberships/query", json=asked)
    assert "transfer-encoding" not in whole.headers
    assert whole.content == response.content
    assert sidecar.services.streams.running == 0


# --- writes ---


async def test_a_result_that_does_not_arrive_in_time(sidecar: Sidecar) -> None:
    headers = {"Idempotency-Key": "c"}
    response = await sidecar.client.patch(PATH, json=CHANGE, headers=headers)
    assert (response.status_code, response.headers["location"]) == (202, "/v1/commands/c")
    pending = await sidecar.get("/v1/commands/c")
    assert pending.json() == {"command_id": "c", "status": "pending"}
    waiting = asyncio.create_task(sidecar.get("/v1/commands/c", headers={"Prefer": "wait=20"}))
    while not sidecar.services.waiters._results:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)
    sidecar.result("c")
    assert (await waiting).json()["status"] == "applied"
    assert (await sidecar.get("/v1/commands/c")).json()["status"] == "applied"


async def test_a_result_that_arrives_before_the_acknowledgement_is_not_pending(
    sidecar: Sidecar,
) -> None:
    sidecar.result("c")
    headers = {"Idempotency-Key": "c", "Prefer": "respond-async"}
    response = await sidecar.client.patch(PATH, json=CHANGE, headers=headers)
    assert response.status_code == 202
    assert not sidecar.producer.is_pending("c")


async def test_a_write_that_the_view_does_not_contain_yet(sidecar: Sidecar) -> None:
    sidecar.producer.decide = applied("0:99", changes=[])
    headers = {"Prefer": "wait=0", "Idempotency-Key": "a/b c"}
    body = {"segment": "A"}
    response = await sidecar.client.post("/v1/segments", json=body, headers=headers)
    assert (response.status_code, response.json()["status"]) == (202, "applied")
    assert response.headers["location"] == "/v1/commands/a%2Fb%20c"
    assert response.headers["segments-position"] == "0:99"


async def test_a_rejection_without_a_position(sidecar: Sidecar) -> None:
    error = {"code": "invalid", "detail": "no"}
    sidecar.producer.decide = applied(status="rejected", error=error, position=None)
    response = await sidecar.client.patch(PATH, json=CHANGE)
    assert_problem(response, 422, "invalid", position=None, detail="no")


async def test_a_batch_that_exceeds_the_queue_sends_nothing(sidecar: Sidecar) -> None:
    sidecar.producer.room = 9
    content = b'{"type": "create_segment", "segment": "A"}\n' * 10
    headers = {"Content-Type": "application/x-ndjson"}
    response = await sidecar.client.post("/v1/commands", content=content, headers=headers)
    assert_problem(response, 503, "kafka_unavailable")
    assert sidecar.producer.sent == []


async def test_a_partly_sent_batch_leaves_no_pending_commands(sidecar: Sidecar) -> None:
    sidecar.producer.lost_after = 4
    lines = [{"type": "create_segment", "segment": f"S{n}", "id": f"c{n}"} for n in range(10)]
    content = b"\n".join(map(orjson.dumps, lines))
    headers = {"Content-Type": "application/x-ndjson"}
    response = await sidecar.client.post("/v1/commands", content=content, headers=headers)
    assert_problem(response, 503, "kafka_unavailable")
    assert sidecar.producer.remembered == set()


# --- what fails ---


async def test_an_unexpected_error_exposes_no_details(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(sidecar.services.view, "response", broken)
    response = await sidecar.get(PATH)
    assert_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert sidecar.view_consumer.errors == []


async def test_a_damaged_view_stops_the_sidecar(tmp_path: Path) -> None:
    """When a block cannot be read the sidecar stops, and the next start rebuilds the view."""
    users = [str(UUID(int=n << 64 | n)) for n in range(3_000)]
    async with running(tmp_path) as sidecar:
        for user in users:
            sidecar.user(user, {f"segment-{user}": held()})
        folder = sidecar.services.view.folder
        sidecar.services.view.database.flush()
    for file in folder.glob("*.sst"):
        content = bytearray(file.read_bytes())
        # The documents come first in the file; what is loaded at the start is behind them.
        for place in range(8_192, 40_960, 4_096):
            content[place : place + 64] = bytes(64)
        file.write_bytes(content)
    async with running(tmp_path) as sidecar:
        responses = [await sidecar.get(f"/v1/users/{user}/segments") for user in users[::20]]
        assert {response.status_code for response in responses} == {200, 500}
        assert sidecar.view_consumer.errors


# --- why a user has a segment ---


async def why(sidecar: Sidecar) -> Any:
    response = await sidecar.get(f"{PATH}/A")
    assert response.status_code == 200
    return response.json()["why"]


async def test_why_with_many_changes_of_the_expiry(tmp_path: Path) -> None:
    began = entry(0, 0, 1_000, USER)
    extended = [
        entry(
            0, n, 1_000 + n, USER, operation="extend", expires_at_ms=NOW_MS + n, command_id=str(n)
        )
        for n in range(1, 300)
    ]
    store(tmp_path, [began, *extended])
    async with running(tmp_path) as sidecar:
        sidecar.user(USER, {"A": held(since=1_000, expires_at=NOW_MS + 299)})
        found = await why(sidecar)
        assert (found["began"]["id"], found["end_set"]["command_id"]) == ("0:0", "299")


async def test_why_when_the_store_is_ahead_of_the_view_or_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`end_set` is the row that set the returned expiry; null if the store lacks it."""
    monkeypatch.setattr(history, "WHY_WAIT_S", 0.2)
    rows = [
        entry(0, 0, 1_000, USER, expires_at_ms=NOW_MS),
        entry(0, 1, 2_000, USER, operation="extend", expires_at_ms=NOW_MS + 1),
        entry(0, 2, 3_000, USER, operation="extend", expires_at_ms=NOW_MS + 2),
    ]
    store(tmp_path, rows)
    async with running(tmp_path) as sidecar:
        for ends_ms, wanted in ((NOW_MS, None), (NOW_MS + 1, "0:1"), (NOW_MS + 2, "0:2")):
            sidecar.user(USER, {"A": held(since=1_000, expires_at=ends_ms)})
            found = await why(sidecar)
            assert found["began"]["id"] == "0:0"
            assert (found["end_set"] or {}).get("id") == wanted
        sidecar.user(USER, {"A": held(since=1_000, expires_at=NOW_MS + 3)})
        assert await why(sidecar) is None
        sidecar.user(USER, {"A": held(since=500)})
        assert await why(sidecar) is None
