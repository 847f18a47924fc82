"""POST /v1/memberships/query on a real broker."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from segments.contracts.partitioning import partition_of
from tests.support.api import Api
from tests.support.sidecar import assert_problem


def query(api: Api, body: Any, **options: Any) -> httpx.Response:
    return api.client.post("/v1/memberships/query", json=body, **options)


def test_many_users_at_once(api: Api) -> None:
    segments = [api.segment() for _ in range(3)]
    users = [api.user() for _ in range(3)]
    for number, user in enumerate(users):
        api.changed(user, add=segments[: number + 1])
    deleted, unknown = api.user("deleted"), str(uuid.uuid4())
    ids = [users[2], unknown, users[0], deleted, users[1].upper()]
    response = query(api, {"user_ids": ids})
    assert response.status_code == 200
    items = response.json()["items"]
    assert [item["user_id"] for item in items] == [
        users[2],
        unknown,
        users[0],
        deleted,
        users[1],
    ]
    assert [item["error"] for item in items] == [
        None,
        "user_unknown",
        None,
        "user_deleted",
        None,
    ]
    assert [item["account"] for item in items] == ["active", None, "active", "deleted", "active"]
    for item in (items[0], items[2], items[4]):
        alone = api.get(f"/v1/users/{item['user_id']}/segments").json()
        assert item == alone | {"error": None}
    assert [held["segment"] for held in items[0]["segments"]] == sorted(segments)
    positions = response.headers["segments-position"].split(",")
    partitions = {partition_of(item["user_id"], api.settings.partitions) for item in items}
    assert [int(position.split(":")[0]) for position in positions] == sorted(partitions)
    assert int(response.headers["segments-staleness-ms"]) >= 0


def test_only_some_segments(api: Api) -> None:
    user, wanted, other = api.user(), api.segment(), api.segment()
    api.changed(user, add=[wanted, other])
    body = {"user_ids": [user, user], "segments": [wanted, "unknown"]}
    items = query(api, body).json()["items"]
    assert [[held["segment"] for held in item["segments"]] for item in items] == [[wanted]] * 2


def test_ten_thousand_users(api: Api) -> None:
    ids = [str(uuid.uuid4()) for _ in range(10_000)]
    items = query(api, {"user_ids": ids}).json()["items"]
    assert [item["user_id"] for item in items] == ids
    assert {item["error"] for item in items} == {"user_unknown"}


def test_with_a_position(api: Api) -> None:
    user, segment = api.user(), api.segment()
    sent = api.change(user, add=[segment], headers={"Prefer": "respond-async"})
    result = api.get(sent.headers["location"], headers={"Prefer": "wait=20"}).json()
    headers = {"Segments-Min-Position": result["position"]}
    [item] = query(api, {"user_ids": [user]}, headers=headers).json()["items"]
    assert [held["segment"] for held in item["segments"]] == [segment]
    future = {"Segments-Min-Position": "0:999999999", "Prefer": "wait=0"}
    assert_problem(query(api, {"user_ids": [user]}, headers=future), 503, "stale")


USER = str(uuid.UUID(int=1))


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, ["user_ids"]),
        ({"user_ids": []}, ["user_ids"]),
        ({"user_ids": [USER] * 10_001}, ["user_ids"]),
        ({"user_ids": [USER, "none", 7, None]}, ["user_ids.1", "user_ids.2", "user_ids.3"]),
        ({"user_ids": USER}, ["user_ids"]),
        ({"user_ids": [USER], "segments": []}, ["segments"]),
        ({"user_ids": [USER], "segments": ["=A"]}, ["segments.0"]),
        ({"user_ids": [USER], "segments": ["A"] * 1_001}, ["segments"]),
        ({"user_ids": [USER], "limit": 3}, ["limit"]),
        ({"user_ids": [f"{USER[:-1]}g"]}, ["user_ids.0"]),
        ({"user_ids": [USER.replace("-", ",")]}, ["user_ids.0"]),
        ({"user_ids": [f"{USER[:-1]}\u0661"]}, ["user_ids.0"]),
    ],
)
def test_invalid_queries(api: Api, body: Any, fields: list[str]) -> None:
    problem = assert_problem(query(api, body), 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == fields
