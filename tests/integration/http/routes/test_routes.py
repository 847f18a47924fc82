"""Rules that every registered route follows, checked with the table of requests."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from segments.http.app import build
from segments.state.history.protocol import StoredRow
from tests.support.route_requests import TABLE, USER, request
from tests.support.sidecar import Sidecar, assert_problem, entry, running, store
from tests.support.view.view_records import held

ROUTES = list(TABLE)
ALSO = {
    "/v1/segments/preview": "/v1/segments/{segment}",
    "/dev/users/import": "/dev/users/{user_id}",
}


@pytest.fixture
async def sidecar(tmp_path: Path) -> AsyncIterator[Sidecar]:
    rows: list[StoredRow] = [entry(n % 2, n, 1_740_000_000_000, USER) for n in range(4)]
    store(tmp_path, rows)
    async with running(tmp_path) as sidecar:
        sidecar.define("A")
        sidecar.user(USER, {"A": held(since=1_740_000_000_000)})
        sidecar.result("known")
        yield sidecar


def ids(key: tuple[str, str]) -> str:
    return " ".join(key)


async def test_the_table_has_every_route(sidecar: Sidecar) -> None:
    registered = {
        (route.method, route.resource.canonical)
        for route in build(sidecar.services).router.routes()
        if route.resource is not None and route.method not in ("HEAD", "*")
    }
    assert registered == TABLE.keys()


@pytest.mark.parametrize("key", ROUTES, ids=ids)
async def test_a_valid_request(sidecar: Sidecar, key: tuple[str, str]) -> None:
    response = await request(sidecar, key)
    row = TABLE[key]
    assert response.status_code == row.status, response.text
    assert response.headers["content-type"].split(";")[0] == row.content_type


@pytest.mark.parametrize("key", ROUTES, ids=ids)
async def test_an_unknown_parameter(sidecar: Sidecar, key: tuple[str, str]) -> None:
    row = TABLE[key]
    if row.ignores_parameters:
        assert (await request(sidecar, key, f"{row.path}?nothing=1")).status_code == row.status
        return
    sent = len(sidecar.producer.sent)
    assert_problem(await request(sidecar, key, f"{row.path}?nothing=1"), 400, "invalid")
    assert len(sidecar.producer.sent) == sent


@pytest.mark.parametrize(
    "key", [key for key in ROUTES if TABLE[key].body is not None or TABLE[key].content], ids=ids
)
async def test_a_body_of_another_type(sidecar: Sidecar, key: tuple[str, str]) -> None:
    row = TABLE[key]
    for content_type in ("text/html", "multipart/form-data; boundary=x", ""):
        response = await sidecar.client.request(
            key[0], row.path, content=b"{}", headers={"Content-Type": content_type}
        )
        assert_problem(response, 415, "content_type")
    assert sidecar.producer.sent == []


@pytest.mark.parametrize("key", [key for key in ROUTES if TABLE[key].body is not None], ids=ids)
async def test_unknown_fields_and_bodies_that_are_not_objects(
    sidecar: Sidecar, key: tuple[str, str]
) -> None:
    row = TABLE[key]
    body = {**row.body, "nothing": 1}
    problem = assert_problem(
        await sidecar.client.request(key[0], row.path, json=body), 422, "invalid"
    )
    assert [error["field"] for error in problem["errors"]] == ["nothing"]
    others: list[Any] = [[], "text", 7, None, True]
    for other in others:
        response = await sidecar.client.request(key[0], row.path, json=[other])
        assert_problem(response, 422, "invalid")
    response = await sidecar.client.request(
        key[0], row.path, content=b"{", headers={"Content-Type": "application/json"}
    )
    assert_problem(response, 400, "not_json")
    assert sidecar.producer.sent == []


@pytest.mark.parametrize("key", [key for key in ROUTES if key[0] == "GET"], ids=ids)
async def test_head_returns_the_headers_of_get(sidecar: Sidecar, key: tuple[str, str]) -> None:
    """Like GET without the body, on a connection that stays usable."""
    head = await request(sidecar, key, method="HEAD")
    got = await request(sidecar, key)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    names = {name for name in got.headers if name.startswith("segments-")}
    assert names <= set(head.headers)


async def test_other_methods(sidecar: Sidecar) -> None:
    """405 with `Allow` listing exactly the methods of the path."""
    methods = defaultdict(set)
    for method, route in ROUTES:
        methods[route].add(method)
        if method == "GET":
            methods[route].add("HEAD")
    for method, route in ROUTES:
        allowed = set(methods[route])
        # The path also matches that of a segment or user with this name.
        allowed |= methods.get(ALSO.get(route, ""), set())
        for other in {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"} - allowed:
            response = await request(sidecar, (method, route), method=other)
            assert_problem(response, 405, "method_not_allowed")
            assert set(response.headers["allow"].split(",")) == allowed, route


@pytest.mark.parametrize("key", ROUTES, ids=ids)
async def test_similar_paths_are_not_found(sidecar: Sidecar, key: tuple[str, str]) -> None:
    row = TABLE[key]
    for path in (f"{row.path}/", f"/{row.path}", f"{row.path}/more/and/more", row.path.upper()):
        response = await request(sidecar, key, path)
        assert response.status_code in (404, 405), path
        assert response.headers["content-type"] == "application/problem+json"
