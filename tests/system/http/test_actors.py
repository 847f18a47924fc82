"""A sidecar that requires API keys beside one that does not: actors in history, keys, links."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from segments.http.auth import api_keys
from segments.process.ports import free_port
from tests.support import credentials, deployments
from tests.support.api import Api, Deployment, ready


@pytest.fixture(scope="module")
def guarded(running: Deployment) -> Iterator[tuple[Api, str]]:
    """A second sidecar of the deployment that requires API keys, and the key of an admin."""
    settings = running.settings
    key = credentials.api_key(settings.data_dir, "admin", name="ops")
    http = settings.http.model_copy(update={"port": free_port()})
    auth = settings.auth.model_copy(update={"mode": "keys"})
    second = settings.model_copy(update={"instance": 1, "http": http, "auth": auth})
    process = deployments.start(second, "http")
    api = Api(second)
    deployments.wait_until(lambda: ready(api), what="readiness")
    api.client.headers.update(credentials.header(key))
    yield api, key
    assert process.stop() == 0, process.log()
    assert key.rpartition("_")[2] not in process.log()
    api.close()


def test_history_has_the_authenticated_actor(api: Api, guarded: tuple[Api, str]) -> None:
    asked, _ = guarded
    segment, other, user = api.segment(), api.segment(), asked.user()
    first = asked.changed(user, add=[segment])
    command = {
        "type": "change_memberships",
        "user_id": user,
        "add": [other],
        "actor": "somebody else",
    }
    accepted = asked.client.post("/v1/commands", json=command).json()["command_ids"][0]
    wait = {"Prefer": "wait=20"}
    second = asked.get(f"/v1/commands/{accepted}", headers=wait).json()
    assert [first["status"], second["status"]] == ["applied", "applied"]
    rows = asked.history(user, second["position"]).json()["items"]
    assert [(row["segment"], row["actor"]) for row in rows] == [(other, "ops"), (segment, "ops")]
    why = asked.get(f"/v1/users/{user}/segments/{segment}").json()["why"]
    assert why["began"]["actor"] == "ops"


def test_a_report_is_opened_by_its_link(guarded: tuple[Api, str]) -> None:
    asked, _ = guarded
    url = asked.client.post("/v1/reports", json={"month": "2025-02"}).json()["url"]
    opened = httpx.get(url, trust_env=False, timeout=60)
    assert (opened.status_code, opened.headers["Segments-Row-Count"]) == (200, "0")
    assert httpx.get(url.partition("?")[0], trust_env=False).status_code == 401


def test_keys_are_created_and_revoked_while_it_runs(guarded: tuple[Api, str]) -> None:
    asked, _ = guarded
    folder: Path = asked.settings.data_dir
    analyst = credentials.api_key(folder, "analyst", name="bi")

    def status() -> int:
        return asked.get("/v1/segments", headers=credentials.header(analyst)).status_code

    deployments.wait_until(lambda: status() == 200, 10, "the new key")
    denied = asked.client.post(
        "/v1/segments", json={"segment": "x"}, headers=credentials.header(analyst)
    )
    assert (denied.status_code, denied.json()["role"]) == (403, "admin")
    api_keys.revoke(folder / "keys.json", "bi")
    deployments.wait_until(lambda: status() == 401, what="the end of the revoked key")
