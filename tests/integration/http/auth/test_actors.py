"""Who is behind a change is who was authenticated, whatever the client says (A1)."""

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
    """Keys are asked for, and the client has one, of `ops`."""
    store(tmp_path, [])
    key = credentials.api_key(tmp_path, "admin", name="ops")
    async with running(tmp_path, auth=credentials.KEYS) as sidecar:
        sidecar.client.headers.update(credentials.header(key))
        sidecar.define("A")
        yield sidecar


async def written(sidecar: Sidecar, method: str, path: str, body: Any) -> dict[str, Any]:
    """The command that a write became."""
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
async def test_whether_waited_for_or_not(sidecar: Sidecar, respond: str) -> None:
    await sidecar.client.post("/v1/segments", json={"segment": "B"}, headers={"Prefer": respond})
    assert [command["actor"] for _, command in sidecar.producer.sent] == ["ops"]


async def test_every_line_of_a_batch_has_it(sidecar: Sidecar) -> None:
    lines = b"\n".join(json.dumps(CLAIMED | {"segment": f"B{n}"}).encode() for n in range(600))
    answer = await sidecar.client.post("/v1/commands", content=lines, headers=NDJSON)
    assert answer.json()["accepted"] == 600
    assert {command["actor"] for _, command in sidecar.producer.sent} == {"ops"}


@pytest.mark.parametrize(("method", "path", "body"), WRITES, ids=str)
async def test_without_auth_a_command_has_the_actor_that_the_client_says(
    tmp_path: Path, method: str, path: str, body: Any
) -> None:
    store(tmp_path, [])
    async with running(tmp_path) as sidecar:
        sidecar.define("A")
        command = await written(sidecar, method, path, body)
        assert command.get("actor") == (body or {}).get("actor")


async def test_a_token_acts_in_the_name_of_its_subject(tmp_path: Path) -> None:
    store(tmp_path, [])
    async with running(tmp_path, auth=credentials.JWT) as sidecar:
        shown = credentials.header(credentials.token(sub="Zoë@example.com"))
        answer = await sidecar.client.post("/v1/commands", json=CLAIMED, headers=shown)
        assert answer.status_code == 202
        assert [command["actor"] for _, command in sidecar.producer.sent] == ["Zoë@example.com"]


async def test_states_set_by_hand_are_logged_with_their_actor(
    sidecar: Sidecar, monkeypatch: pytest.MonkeyPatch
) -> None:
    with capture_logs() as logged:
        # Loggers that were used before keep the processors they had then.
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
