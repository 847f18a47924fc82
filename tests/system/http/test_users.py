"""/v1/users on a real broker: reading, changing and explaining memberships."""

from __future__ import annotations

import time
import uuid
from typing import Any

import orjson
import pytest

from segments.contracts.partitioning import partition_of
from segments.contracts.times import from_rfc3339, to_rfc3339
from tests.support.api import Api
from tests.support.sidecar import assert_problem

DAY_MS = 86_400_000


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_add_and_remove_in_one_call(api: Api) -> None:
    user, first, second = api.user(), api.segment(), api.segment()
    api.changed(user, add=[first])
    response = api.change(user, add=[second], remove=[first])
    assert response.status_code == 200
    result = response.json()
    assert (result["status"], result["error"]) == ("applied", None)
    assert sorted(map(str, result["changes"])) == sorted(
        [
            str({"segment": second, "operation": "add"}),
            str({"segment": first, "operation": "remove"}),
        ]
    )
    assert response.headers["segments-position"] == result["position"]
    assert api.segments_of(user) == [second]


def test_a_complete_response(api: Api) -> None:
    user, plain, ending = api.user(), api.segment("b"), api.segment("a")
    ends = to_rfc3339(now_ms() + DAY_MS)
    before_ms = now_ms()
    api.changed(user, add=[plain, {"segment": ending, "expires_at": ends}])
    response = api.get(f"/v1/users/{user}/segments")
    body = response.json()
    assert (body["user_id"], body["account"]) == (user, "active")
    since = [held.pop("since") for held in body["segments"]]
    assert body["segments"] == [
        {"segment": ending, "expires_at": ends, "origin": "command"},
        {"segment": plain, "expires_at": None, "origin": "command"},
    ]
    assert all(before_ms - 1_000 <= from_rfc3339(at) <= now_ms() + 1_000 for at in since)
    partition, _, offset = response.headers["segments-position"].partition(":")
    assert int(partition) == partition_of(user, api.settings.partitions)
    assert offset.isdigit()
    assert int(response.headers["segments-staleness-ms"]) >= 0


def test_a_name_of_any_script(api: Api) -> None:
    user, name = api.user(), f"Москва.день-1:{uuid.uuid4().hex}"
    created = api.client.post("/v1/segments", json={"segment": name})
    assert created.status_code == 201
    assert created.headers["location"].isascii()
    assert api.get(created.headers["location"]).json()["segment"] == name
    api.changed(user, add=[name])
    assert api.segments_of(user) == [name]
    assert api.get(f"/v1/users/{user}/segments/{name}").json()["segment"] == name


@pytest.mark.parametrize("form", ["urn:uuid:{}", "upper"])
def test_a_user_id_in_another_form_is_the_same_user(api: Api, form: str) -> None:
    user, segment = api.user(), api.segment()
    other = user.upper() if form == "upper" else form.format(user)
    api.changed(other, add=[segment])
    assert api.get(f"/v1/users/{other}/segments").json()["user_id"] == user
    assert api.segments_of(user) == [segment]


def test_unknown_users_and_segments(api: Api) -> None:
    unknown, deleted = str(uuid.uuid4()), api.user("deleted")
    for path in ("segments", "segments/A"):
        assert_problem(api.get(f"/v1/users/{unknown}/{path}"), 404, "user_unknown")
        response = api.get(f"/v1/users/{deleted}/{path}")
        assert_problem(response, 404, "user_deleted")
        assert "segments-staleness-ms" in response.headers
    assert_problem(api.get("/v1/users/none/segments"), 400, "invalid")


def test_a_blocked_user_is_shown_as_such(api: Api) -> None:
    user = api.user("blocked")
    assert api.get(f"/v1/users/{user}/segments").json()["account"] == "blocked"


def test_one_membership_and_why(api: Api) -> None:
    user, segment, other = api.user(), api.segment(), api.segment()
    first = api.changed(user, add=[segment])
    path = f"/v1/users/{user}/segments/{segment}"
    body = api.get(path).json()
    assert (body["until"], body["origin"]) == (None, "command")
    began = body["why"]["began"]
    assert (began["operation"], began["command_id"]) == ("add", first["command_id"])
    assert (began["cause"], began["at"], body["why"]["end_set"]) == ("command", body["since"], None)
    ends = to_rfc3339(now_ms() + DAY_MS)
    extension = api.changed(user, add=[{"segment": segment, "expires_at": ends}])
    body = api.get(path).json()
    assert (body["until"], body["expires_at"], body["since"]) == (ends, ends, began["at"])
    assert body["why"]["began"] == began
    end_set = body["why"]["end_set"]
    assert (end_set["operation"], end_set["expires_at"]) == ("extend", ends)
    assert end_set["command_id"] == extension["command_id"]
    response = api.get(f"/v1/users/{user}/segments/{other}")
    assert_problem(response, 404, "not_a_member")
    assert "segments-position" in response.headers
    assert_problem(api.get(f"/v1/users/{user}/segments/=A"), 400, "invalid")


def test_a_membership_expires_at_its_timestamp(api: Api) -> None:
    user, segment = api.user(), api.segment()
    ends_ms = now_ms() + 3_000
    api.changed(user, add=[{"segment": segment, "expires_at": to_rfc3339(ends_ms)}])
    while (asked_ms := now_ms()) < ends_ms:
        held = api.segments_of(user)
        assert held == [segment] or now_ms() >= ends_ms, f"ended {ends_ms - asked_ms} ms early"
    assert api.segments_of(user) == []
    assert_problem(api.get(f"/v1/users/{user}/segments/{segment}"), 404, "not_a_member")


def test_a_deleted_segment_is_gone_at_once(api: Api) -> None:
    user, segment = api.user(), api.segment()
    api.changed(user, add=[segment])
    api.delete(segment)
    assert api.segments_of(user) == []
    created = api.client.post("/v1/segments", json={"segment": segment})
    assert (created.status_code, created.json()["generation"]) == (201, 2)
    assert api.segments_of(user) == []


# --- what changes refuse ---


def test_an_unknown_segment_rejects_the_whole_change(api: Api) -> None:
    user, segment = api.user(), api.segment()
    gone = api.segment()
    api.delete(gone)
    response = api.change(user, add=[segment, gone])
    problem = assert_problem(response, 422, "segment_unknown", segments=[gone])
    assert problem["position"]
    assert problem["command_id"]
    assert api.segments_of(user) == []


def test_an_expiry_in_the_past_is_rejected(api: Api) -> None:
    user, segment = api.user(), api.segment()
    past = to_rfc3339(now_ms() - 1_000)
    response = api.change(user, add=[{"segment": segment, "expires_at": past}])
    assert_problem(response, 422, "already_expired", segments=[segment])
    assert api.segments_of(user) == []


def test_a_deleted_user_gets_nothing(api: Api) -> None:
    user, segment = api.user(), api.segment()
    api.changed(user, add=[segment])
    assert api.client.delete(f"/dev/users/{user}").status_code == 200
    assert_problem(api.change(user, add=[segment]), 422, "user_deleted")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, [""]),
        ({"add": [], "remove": []}, [""]),
        ({"add": ["A"], "remove": ["A"]}, [""]),
        ({"add": [f"S{n}" for n in range(101)]}, ["add"]),
        ({"add": ["A"], "because": "x"}, ["because"]),
        ({"add": ["A"], "id": "x"}, ["id"]),
        ({"add": "A"}, ["add"]),
        ({"add": ["=A", "a;b", "é" * 129]}, ["add.0.segment", "add.1.segment", "add.2.segment"]),
        ({"remove": [""]}, ["remove.0"]),
        ({"add": [{"segment": "A", "ttl": 0}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "A", "ttl": -1}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "A", "ttl": "P101Y"}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "A", "ttl": "NaN"}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "A", "ttl": True}]}, ["add.0.ttl"]),
        ({"add": [{"segment": "A", "expires_at": "tomorrow"}]}, ["add.0.expires_at"]),
        ({"add": [{"segment": "A", "expires_at": "2030-01-01T00:00:00"}]}, ["add.0.expires_at"]),
        ({"add": [{"segment": "A", "ttl": 1, "expires_at": "2030-01-01T00:00:00Z"}]}, ["add.0"]),
        ([], [""]),
        (None, [""]),
    ],
)
def test_invalid_fields_are_listed(api: Api, body: Any, fields: list[str]) -> None:
    response = api.client.patch(
        f"/v1/users/{uuid.uuid4()}/segments",
        content=orjson.dumps(body),
        headers={"Content-Type": "application/json"},
    )
    problem = assert_problem(response, 422, "invalid")
    assert [error["field"] for error in problem["errors"]] == fields
    assert all(error["detail"] for error in problem["errors"])


def test_an_idempotency_key_repeated(api: Api) -> None:
    user, first, second = api.user(), api.segment(), api.segment()
    key = f"key/{uuid.uuid4()}?é"
    sent = {"Idempotency-Key": key.encode()}
    one = api.change(user, add=[first], headers=sent)
    again = api.change(user, add=[second], headers=sent)
    assert (one.status_code, again.status_code) == (200, 200)
    assert again.json() == one.json()
    assert one.json()["command_id"] == key
    assert api.segments_of(user) == [first]
    rows = api.history(user, one.json()["position"]).json()["items"]
    assert [(row["segment"], row["command_id"]) for row in rows] == [(first, key)]


@pytest.mark.parametrize("key", ["", "x" * 129, "a\tb"])
def test_invalid_idempotency_keys(api: Api, key: str) -> None:
    response = api.change(str(uuid.uuid4()), add=["A"], headers={"Idempotency-Key": key})
    problem = assert_problem(response, 400, "invalid")
    assert problem["errors"][0]["field"] == "Idempotency-Key"


def test_not_waiting_for_the_result(api: Api) -> None:
    user, segment = api.user(), api.segment()
    key = f"a b/ü?{uuid.uuid4()}"
    response = api.change(
        user,
        add=[segment],
        headers={"Prefer": "respond-async", "Idempotency-Key": key.encode()},
    )
    assert response.status_code == 202
    assert response.json() == {"command_id": key, "status": "pending"}
    location = response.headers["location"]
    assert location.isascii()
    result = api.get(location, headers={"Prefer": "wait=20"})
    assert (result.status_code, result.json()["status"]) == (200, "applied")
    assert result.json()["command_id"] == key
    position = {"Segments-Min-Position": result.json()["position"]}
    shown = api.get(f"/v1/users/{user}/segments", headers=position).json()["segments"]
    assert [held["segment"] for held in shown] == [segment]


def test_twenty_equal_additions_at_once(api: Api) -> None:
    """One membership, one row, and a response to every request."""
    import concurrent.futures  # noqa: PLC0415 - here only

    user, segment = api.user(), api.segment()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda _: api.change(user, add=[segment]), range(20)))
    assert {response.status_code for response in responses} == {200}
    statuses = sorted(response.json()["status"] for response in responses)
    assert statuses == ["applied"] + ["unchanged"] * 19
    newest = max(
        (response.json()["position"] for response in responses),
        key=lambda position: int(position.partition(":")[2]),
    )
    assert len(api.history(user, newest).json()["items"]) == 1
