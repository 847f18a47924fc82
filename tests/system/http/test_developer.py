"""/dev/users on a real broker: writing users into the replica."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from segments.process.ports import free_port
from tests.support import deployments
from tests.support.api import Api, Deployment, ready
from tests.support.sidecar import assert_problem


@pytest.fixture(scope="module")
def without_methods(running: Deployment) -> Iterator[Api]:
    """A second sidecar of the same deployment, with the defaults for production."""
    settings = running.settings
    http = settings.http.model_copy(update={"port": free_port()})
    dev = settings.dev.model_copy(update={"enabled": False})
    other = settings.model_copy(update={"instance": 1, "http": http, "dev": dev})
    process = deployments.start(other, "http")
    api = Api(other)
    deployments.wait_until(lambda: ready(api), what="the second sidecar")
    yield api
    api.close()
    assert process.stop() == 0


def test_a_user_is_added_changed_and_removed(api: Api) -> None:
    user, segment = str(uuid.uuid4()), api.segment()
    path = f"/dev/users/{user}"
    assert_problem(api.get(path), 404, "user_unknown")
    for state in ("active", "blocked", "active"):
        response = api.set_state(user, state)
        assert (response.status_code, response.json()) == (200, {"user_id": user, "state": state})
        assert api.get(path).json() == {"user_id": user, "state": state}
    api.changed(user, add=[segment])
    response = api.client.delete(path)
    assert (response.status_code, response.json()["state"]) == (200, "deleted")
    assert api.get(path).json()["state"] == "deleted"

    def causes() -> Any:
        return [row["cause"] for row in api.history(user).json()["items"]]

    deployments.wait_until(
        lambda: causes() == ["user_deleted", "command"], what="the removal's row"
    )
    assert api.set_state(user, "active").status_code == 200
    assert api.segments_of(user) == [], "who comes back has nothing of before"


def test_without_waiting(api: Api) -> None:
    user = str(uuid.uuid4())
    response = api.set_state(user, "blocked", headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    deployments.wait_until(
        lambda: api.get(f"/dev/users/{user}").json().get("state") == "blocked", what="the state"
    )


def test_a_user_id_in_another_form(api: Api) -> None:
    user = str(uuid.uuid4())
    assert api.set_state(user.upper(), "active").json()["user_id"] == user
    assert api.segments_of(user) == []


@pytest.mark.parametrize("body", [{}, {"state": "gone"}, {"state": "active", "name": "x"}, []])
def test_invalid_states(api: Api, body: Any) -> None:
    response = api.client.put(f"/dev/users/{uuid.uuid4()}", json=body)
    assert_problem(response, 422, "invalid")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_invalid_user_ids(api: Api, method: str) -> None:
    response = api.client.request(method, "/dev/users/7", json={"state": "active"})
    assert_problem(response, 400, "invalid")


def test_with_a_position(api: Api) -> None:
    user = api.user()
    headers = {"Segments-Min-Position": "0:999999999", "Prefer": "wait=0"}
    assert_problem(api.get(f"/dev/users/{user}", headers=headers), 503, "stale")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "POST"])
def test_disabled_routes_do_not_exist(without_methods: Api, method: str) -> None:
    for path in (f"/dev/users/{uuid.uuid4()}", "/dev/users", "/dev/users/import"):
        response = without_methods.client.request(method, path, json={"state": "active"})
        assert_problem(response, 404, "not_found")


def test_two_sidecars_return_the_same_at_a_position(api: Api, without_methods: Api) -> None:
    user = api.user()
    for number in range(5):
        writer, reader = (api, without_methods) if number % 2 else (without_methods, api)
        segment = api.segment()
        position = writer.changed(user, add=[segment])["position"]
        headers = {"Segments-Min-Position": position, "Prefer": "wait=20"}
        path = f"/v1/users/{user}/segments"
        one, other = (each.get(path, headers=headers) for each in (writer, reader))
        assert one.json() == other.json()
        assert one.headers["etag"] == other.headers["etag"]
        assert segment in {held["segment"] for held in other.json()["segments"]}


def test_a_command_accepted_by_another_sidecar(api: Api, without_methods: Api) -> None:
    """Only the sidecar that accepted it reports it as pending; every sidecar has the result."""
    segment = f"elsewhere-{uuid.uuid4().hex}"
    headers = {"Prefer": "respond-async"}
    sent = api.client.post("/v1/segments", json={"segment": segment}, headers=headers)
    path = sent.headers["location"]
    found = without_methods.get(path, headers={"Prefer": "wait=20"})
    assert (found.status_code, found.json()["status"]) == (200, "applied")
