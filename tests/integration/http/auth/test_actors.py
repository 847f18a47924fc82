"""The actor of a change is the authenticated subject, whatever the client sends."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from segments.http.routes import developer, imports
from tests.support import credentials
from tests.support.sidecar import Sidecar, running, store

USER = str(UUID(int=1))
NDJSON = {"Content-Type": "application/x-ndjson"}
CLAIMED = {"type": "create_segment", "segment": "B", "actor": "somebody else"}
WRITES: list[tuple[str, str, Any]] = [
    ("PATCH", f"/v1/users/{USER}/segments", {"add": ["A"]}),
    ("POST", "/v1/segments", {"segment": "B"}),
    ("PATCH", "/v1/segments/A", {"description": "x"}),
    ("DELETE", "/v1/segments/A", None),
    ("POST", "/v1/segments/preview", {"auto": {"percent": 50}}),
    ("POST", "/v1/commands", {"type": "create_segment", "segment": "B"}),
    ("POST", "/v1/commands", CLAIMED),
]


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    """A sidecar that requires API keys; the client uses one named `ops`."""
    store(tmp_path, [])
    key = credentials.api_key(tmp_path, "admin", name="ops")
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:
        sidecar.client.headers.update(credentials.header(key))
        sidecar.define("A")
        yield sidecar


async def written(sidecar: Sidecar, method: str, path: str, body: Any) -> dict[str, Any]:
    """The command that a write produced."""
    answer = await sidecar.client.request(method, path, json=body, headers={"Prefer": "wait=0"})
    assert answer.status_code == 202, answer.text
    [(_, command)] = sidecar.producer.sent
    return command


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=str)
async def test_every_command_has_the_authenticated_actor(
    sidecar: Sidecar, method: str, path: str, body: Any
) -> None:
    assert (await written(sidecar, method, path, body))["actor"] == "ops"


@pytest.mark.parametrize("respond", ["respond-async", "wait=1"])
async def test_the_actor_does_not_depend_on_waiting(sidecar: Sidecar, respond: str) -> None:
    await sidecar.client.post("/v1/segments", json={"segment": "B"}, headers={"Prefer": respond})
    assert [command["actor"] for _, command in sidecar.producer.sent] == ["ops"]


async def test_every_line_of_a_batch_has_the_authenticated_actor(sidecar: Sidecar) -> None:
    lines = b"\n".join(json.dumps(CLAIMED | {"segment": f"B{n}"}).encode() for n in range(600))
    answer = await sidecar.client.post("/v1/commands", content=lines, headers=NDJSON)
    assert answer.json()["accepted"] == 600
    assert {command["actor"] for _, command in sidecar.producer.sent} == {"ops"}


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=str)
async def test_without_auth_a_command_has_the_actor_sent_by_the_client(
    tmp_path: Path, method: str, path: str, body: Any
) -> None:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        sidecar.define("A")
        command = await written(sidecar, method, path, body)
        assert command.get("actor") == (body or {}).get("actor")


async def test_the_actor_of_a_token_is_its_subject(tmp_path: Path) -> None:
    store(tmp_path, [])
    async with running(tmp_path, auth=credentials.JWT) as sidecar:
        shown = credentials.header(credentials.token(sub="Zoë@example.com"))
        answer = await sidecar.client.post("/v1/commands", json=CLAIMED, headers=shown)
        assert answer.status_code == 202
        assert [command["actor"] for _, command in sidecar.producer.sent] == ["Zoë@example.com"]


async def test_developer_writes_are_logged_with_their_actor(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logged:
        # Loggers cache their processors on first use.
        for module in (developer, imports):
            monkeypatch.setattr(module, "log", module.logs.get(module.__name__))
        wait = {"Prefer": "wait=0"}
        path = f"/dev/users/{USER}"
        await sidecar.client.put(path, json={"state": "blocked"}, headers=wait)
        await sidecar.client.delete(path, headers=wait)
        lines = f'{{"user_id": "{USER}", "state": "active"}}\nx\n'
        await sidecar.client.post("/dev/users/import", content=lines, headers=NDJSON)
    by_hand = [entry for entry in logged if entry["event"] in {"user_state_set", "users_imported"}]
    assert [entry["actor"] for entry in by_hand] == ["ops"] * 3
    assert [entry.get("state") for entry in by_hand] == ["blocked", "deleted", None]
    assert (by_hand[2]["accepted"], by_hand[2]["refused"]) == (1, 1)
