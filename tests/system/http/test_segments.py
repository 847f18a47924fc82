"""/v1/segments on a real broker: create, list, change, delete."""

from __future__ import annotations

import concurrent.futures
import gzip
import uuid
from typing import Any

import httpx
import pytest

from segments.contracts.times import from_rfc3339
from tests.support import deployments
from tests.support.api import Api
from tests.support.sidecar import assert_problem

JSON = {"Content-Type": "application/json"}


def new_name(prefix: str = "S") -> str:
    return f"{prefix}-{uuid.uuid4().hex}"


def create(api: Api, **body: Any) -> httpx.Response:
    return api.client.post("/v1/segments", json=body)


def test_create_and_read_a_segment(api: Api) -> None:
    name = new_name()
    response = create(api, segment=name, description="who pays")
    assert response.status_code == 201
    body = response.json()
    assert response.headers["location"] == f"/v1/segments/{name}"
    assert (body["segment"], body["description"], body["state"]) == (name, "who pays", "active")
    assert (body["generation"], body["version"], body["size"], body["auto"]) == (1, 1, 0, None)
    assert from_rfc3339(body["created_at"]) > 0
    shown = api.get(f"/v1/segments/{name}")
    assert shown.json() == body
    assert shown.headers["segments-position"].split(":")[0] == body["position"].split(":")[0]
    assert int(shown.headers["segments-staleness-ms"]) >= 0


def test_a_name_in_use_is_rejected(api: Api) -> None:
    name = new_name()
    create(api, segment=name, description="first")
    response = create(api, segment=name, description="second")
    problem = assert_problem(response, 409, "segment_exists")
    assert problem["command_id"]
    assert api.get(f"/v1/segments/{name}").json()["description"] == "first"


def test_one_of_many_concurrent_creations_succeeds(api: Api) -> None:
    name = new_name()
    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        responses = list(
            pool.map(lambda n: create(api, segment=name, description=str(n)), range(10))
        )
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [201] + [409] * 9
    [winner] = [response for response in responses if response.status_code == 201]
    assert api.get(f"/v1/segments/{name}").json() == winner.json()


def test_a_creation_repeated_with_its_key(api: Api) -> None:
    name, key = new_name(), {"Idempotency-Key": uuid.uuid4().hex}
    first = api.client.post("/v1/segments", json={"segment": name}, headers=key)
    again = api.client.post("/v1/segments", json={"segment": name}, headers=key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()


def test_change_the_description(api: Api) -> None:
    name = new_name()
    create(api, segment=name, description="first")
    path = f"/v1/segments/{name}"
    response = api.client.patch(path, json={"description": "second"})
    assert response.status_code == 200
    assert (response.json()["description"], response.json()["version"]) == ("second", 2)
    same = api.client.patch(path, json={"description": "second"})
    assert (same.status_code, same.json()) == (200, response.json()), "nothing changes, and it says"
    nothing = api.client.patch(path, json={})
    assert (nothing.status_code, nothing.json()) == (200, response.json())
    cleared = api.client.patch(path, json={"description": None})
    assert cleared.json()["description"] is None


def test_delete_a_segment(api: Api) -> None:
    name, user = api.segment(), api.user()
    api.changed(user, add=[name])
    path = f"/v1/segments/{name}"
    deployments.wait_until(lambda: api.get(path).json()["size"] == 1, what="the size")
    response = api.client.delete(path)
    assert (response.status_code, response.json()["status"]) == (200, "applied")
    assert response.headers["segments-position"] == response.json()["position"]
    missing = api.get(path)
    assert_problem(missing, 404, "segment_unknown")
    assert "segments-staleness-ms" in missing.headers
    assert_problem(api.client.delete(path), 404, "segment_unknown", segments=[name])
    assert_problem(api.client.patch(path, json={}), 404, "segment_unknown")

    def rows() -> Any:
        return [(r["operation"], r["cause"]) for r in api.history(user).json()["items"]]

    wanted = [("remove", "segment_deleted"), ("add", "command")]
    deployments.wait_until(lambda: rows() == wanted, what="the row of the deletion")
    again = create(api, segment=name)
    assert (again.status_code, again.json()["generation"], again.json()["size"]) == (201, 2, 0)


def test_prefer_respond_async_does_not_wait(api: Api) -> None:
    name = new_name()
    headers = {"Prefer": "respond-async"}
    response = api.client.post("/v1/segments", json={"segment": name}, headers=headers)
    assert (response.status_code, response.json()["status"]) == (202, "pending")
    result = api.get(response.headers["location"], headers={"Prefer": "wait=20"}).json()
    position = {"Segments-Min-Position": result["position"]}
    assert api.get(f"/v1/segments/{name}", headers=position).json()["segment"] == name
    deleted = api.client.delete(f"/v1/segments/{name}", headers=headers)
    assert deleted.status_code == 202
    result = api.get(deleted.headers["location"], headers={"Prefer": "wait=20"}).json()
    position = {"Segments-Min-Position": result["position"]}
    assert_problem(api.get(f"/v1/segments/{name}", headers=position), 404, "segment_unknown")


def test_create_then_add_at_once(api: Api) -> None:
    """A segment can be used once its creation has been accepted."""
    user, name = api.user(), new_name()
    api.client.post("/v1/segments", json={"segment": name}, headers={"Prefer": "respond-async"})
    assert api.changed(user, add=[name])["status"] == "applied"
    assert api.segments_of(user) == [name]


def test_all_segments_in_pages(api: Api) -> None:
    prefix = new_name("list")
    names = sorted(f"{prefix}-{n}" for n in ("a", "b", "c", "é", "Z"))
    for name in names:
        create(api, segment=name)
    deleted = f"{prefix}-deleted"
    create(api, segment=deleted)
    api.delete(deleted)
    found: list[str] = []
    url: str | None = "/v1/segments?limit=3"
    while url is not None:
        page = api.get(url)
        assert page.status_code == 200
        assert page.headers["segments-position"].count(":") == api.settings.partitions
        assert int(page.headers["segments-staleness-ms"]) >= 0
        items = page.json()["items"]
        assert len(items) <= 3
        found += [item["segment"] for item in items]
        assert all(item["state"] == "active" and "size" in item for item in items)
        url = page.links["next"]["url"] if "next" in page.links else None
        assert (page.json()["next"] is None) == (url is None)
        if url is not None:
            assert f"cursor={page.json()['next']}" in url
            assert "limit=3" in url
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    assert [name for name in found if name.startswith(prefix)] == names


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=1.5",
        "limit=",
        "page=2",
        "cursor=!",
        "cursor=WzFd",
        "cursor=",
    ],
)
def test_invalid_list_queries(api: Api, query: str) -> None:
    assert_problem(api.get(f"/v1/segments?{query}"), 400, "invalid")


@pytest.mark.parametrize(
    "name",
    ["", "a" * 129, "../x", "a;b", "a\nb", "=a", "-a", "e\u0301", "😀", "a b", "a/b", "\u0000"],
)
def test_invalid_names(api: Api, name: str) -> None:
    problem = assert_problem(create(api, segment=name), 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == ["segment"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["segment"]),
        ({"segment": 1}, ["segment"]),
        ({"segment": None}, ["segment"]),
        ({"segment": "A", "description": "x" * 4_097}, ["description"]),
        ({"segment": "A", "owner": "x", "state": "active"}, ["owner", "state"]),
        ({"segment": "A", "generation": 7}, ["generation"]),
    ],
)
def test_invalid_fields(api: Api, body: Any, fields: list[str]) -> None:
    problem = assert_problem(create(api, **body), 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == fields


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "not_json"),
        (b"", JSON, 400, "not_json"),
        (b'{"segment": "\xff"}', JSON, 400, "not_json"),
        (b'{"segment": "\\ud800"}', JSON, 400, "not_json"),
        (b"[" * 100_000, JSON, 400, "not_json"),
        (b"{}", {}, 415, "content_type"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "content_type"),
        (b"segment=A", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "content_type"),
        (b"{}" + b" " * 1_048_576, JSON, 413, "body_too_large"),
    ],
)
def test_invalid_bodies(
    api: Api, content: bytes, headers: dict[str, str], status: int, code: str
) -> None:
    response = api.client.post("/v1/segments", content=content, headers=headers)
    assert_problem(response, status, code)


def test_a_chunked_body_that_is_too_large(api: Api) -> None:
    chunks = (b" " * 65_536 for _ in range(20))
    response = api.client.post("/v1/segments", content=chunks, headers=JSON)
    assert_problem(response, 413, "body_too_large")


def test_compressed_bodies_are_rejected(api: Api) -> None:
    """A truncated one could go unnoticed, and a small one expand to a huge size."""
    packed = gzip.compress(b'{"segment": "%s"}' % new_name().encode())
    headers = JSON | {"Content-Encoding": "gzip"}
    response = api.client.post("/v1/segments", content=packed, headers=headers)
    assert_problem(response, 415, "content_encoding")
