"""/v1/users on a real broker: memberships read, changed and explained."""

from __future__ import annotations

import time
import uuid
from typing import Any

import orjson
import pytest

from segments.contracts.partitioning import partition_of
from segments.contracts.times import from_rfc3339, to_rfc3339
from tests import support
from tests.http.api import Api
from tests.http.sidecar import assert_problem

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


def test_an_answer_in_full(api: Api) -> None:
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


def test_who_is_not_there(api: Api) -> None:
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


def test_a_membership_ends_at_its_instant(api: Api) -> None:
    user, segment = api.user(), api.segment()
    ends_ms = now_ms() + 1_500
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


def test_an_unknown_segment_refuses_everything(api: Api) -> None:
    user, segment = api.user(), api.segment()
    gone = api.segment()
    api.delete(gone)
    response = api.change(user, add=[segment, gone])
    problem = assert_problem(response, 422, "segment_unknown", segments=[gone])
    assert problem["position"]
    assert problem["command_id"]
    assert api.segments_of(user) == []


def test_an_end_in_the_past_is_refused(api: Api) -> None:
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
def test_fields_that_are_wrong_are_named(api: Api, body: Any, fields: list[str]) -> None:
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
def test_an_idempotency_key_that_is_none(api: Api, key: str) -> None:
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


# --- how fresh an answer is ---


def test_a_position_in_the_future(api: Api) -> None:
    user = api.user()
    partition = partition_of(user, api.settings.partitions)
    started_s = time.monotonic()
    response = api.get(
        f"/v1/users/{user}/segments",
        headers={"Segments-Min-Position": f"{partition}:999999999", "Prefer": "wait=1"},
    )
    assert_problem(response, 503, "stale")
    assert response.headers["retry-after"] == "1"
    assert 1 <= time.monotonic() - started_s < 30


@pytest.mark.parametrize(
    "position",
    ["", "1", "a:b", "0:-1", "0:1:2", "99:1", "0:1;1:2", "0:1,,1:2", "0:1," * 65 + "0:1"],
)
@pytest.mark.parametrize("path", ["segments", "segments/A", "history"])
def test_a_position_that_is_none(api: Api, path: str, position: str) -> None:
    headers = {"Segments-Min-Position": position}
    response = api.get(f"/v1/users/{uuid.uuid4()}/{path}", headers=headers)
    assert_problem(response, 400, "invalid")


def test_every_position_given_is_waited_for(api: Api) -> None:
    """Also when they come in several headers."""
    user = api.user()
    mine = partition_of(user, api.settings.partitions)
    other = (mine + 1) % api.settings.partitions
    headers = [
        ("Segments-Min-Position", f"{mine}:0"),
        ("Segments-Min-Position", f"{other}:999999999"),
        ("Prefer", "wait=0"),
    ]
    path = f"/v1/users/{user}/segments"
    assert_problem(api.get(path, headers=headers), 503, "stale")
    assert api.get(path, headers=[("Segments-Min-Position", f"{mine}:0, {other}:0")]).is_success


def test_reading_what_was_written_by_its_position(api: Api) -> None:
    """A command without waiting, then a read with the position of its result."""
    user = api.user()
    segments = [api.segment() for _ in range(5)]
    for segment in segments:
        sent = api.change(user, add=[segment], headers={"Prefer": "respond-async"})
        result = api.get(sent.headers["location"], headers={"Prefer": "wait=20"}).json()
        headers = {"Segments-Min-Position": result["position"], "Prefer": "wait=20"}
        shown = api.get(f"/v1/users/{user}/segments", headers=headers)
        assert segment in {held["segment"] for held in shown.json()["segments"]}


def test_an_etag(api: Api) -> None:
    user, segment = api.user(), api.segment()
    api.changed(user, add=[segment])
    path = f"/v1/users/{user}/segments"
    first = api.get(path)
    etag = first.headers["etag"]
    assert api.get(path).headers["etag"] == etag
    for asked in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = api.get(path, headers={"If-None-Match": asked})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
        assert "segments-staleness-ms" in response.headers
    assert api.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    api.changed(user, remove=[segment])
    changed = api.get(path, headers={"If-None-Match": etag})
    assert (changed.status_code, changed.json()["segments"]) == (200, [])


def test_head_is_get_without_a_body(api: Api) -> None:
    user = api.user()
    path = f"/v1/users/{user}/segments"
    response = api.client.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(len(api.get(path).content))
    assert api.client.head("/v1/users/none/segments").status_code == 400


# --- what was ---


def test_history_newest_first_in_pages(api: Api) -> None:
    user = api.user()
    segments = [api.segment() for _ in range(3)]
    for segment in segments:
        api.changed(user, add=[segment])
    last = api.changed(user, remove=segments)
    whole = api.history(user, last["position"])
    rows = whole.json()["items"]
    assert whole.json()["next"] is None
    assert [row["operation"] for row in rows] == ["remove"] * 3 + ["add"] * 3
    assert [row["at"] for row in rows] == sorted((row["at"] for row in rows), reverse=True)
    assert rows[0].keys() == {
        "id",
        "user_id",
        "segment",
        "generation",
        "operation",
        "at",
        "cause",
        "command_id",
        "actor",
        "expires_at",
    }
    assert from_rfc3339(whole.headers["segments-complete-until"]) > 0
    paged: list[Any] = []
    url: str | None = f"/v1/users/{user}/history?limit=2"
    while url is not None:
        page = api.get(url)
        assert len(page.json()["items"]) == 2
        paged += page.json()["items"]
        url = page.links["next"]["url"] if "next" in page.links else None
        assert (url is None) == (page.json()["next"] is None)
    assert paged == rows


def test_history_of_a_period(api: Api) -> None:
    user = api.user()
    segments = [api.segment() for _ in range(3)]
    for segment in segments:
        last = api.changed(user, add=[segment])
    rows = api.history(user, last["position"]).json()["items"]
    middle = rows[1]["at"]
    from_it = api.history(user, **{"from": middle}).json()["items"]
    assert from_it == [row for row in rows if row["at"] >= middle]
    before_it = api.history(user, to=middle).json()["items"]
    assert before_it == [row for row in rows if row["at"] < middle]
    assert api.history(user, **{"from": middle, "to": middle}).json()["items"] == []


def test_history_of_nobody(api: Api) -> None:
    assert_problem(api.history(str(uuid.uuid4())), 404, "user_unknown")
    assert api.history(api.user()).json() == {"items": [], "next": None}
    gone = api.user("deleted")
    assert api.history(gone).status_code == 200


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "limit=1&limit=2",
        "from=yesterday",
        "to=2026-13-01T00:00:00Z",
        "until=2026-01-01T00:00:00Z",
        "cursor=x",
        "cursor=WzEsMl0",  # two numbers
        "cursor=WyJhIiwxLDJd",  # not a number
        "cursor=WzE4NDQ2NzQ0MDczNzA5NTUxNjE1LDAsMF0",  # a number too large for the store
    ],
)
def test_history_queries_that_mean_nothing(api: Api, query: str) -> None:
    assert_problem(api.get(f"/v1/users/{uuid.uuid4()}/history?{query}"), 400, "invalid")


def as_of(api: Api, user: str, at: str, **headers: str) -> Any:
    return api.get(
        f"/v1/users/{user}/segments", params={"at": at}, headers={"Prefer": "wait=20"} | headers
    )


def test_memberships_at_past_instants(api: Api) -> None:
    """Against an oracle made of the history; with ends that came and segments that were deleted."""
    user = api.user()
    kept, deleted, ending = api.segment("k"), api.segment("d"), api.segment("e")
    ends_ms = now_ms() + 1_200
    api.changed(user, add=[kept])
    api.changed(user, add=[{"segment": ending, "expires_at": to_rfc3339(ends_ms)}, deleted])
    api.delete(deleted)
    api.client.post("/v1/segments", json={"segment": deleted})
    support.wait_until(lambda: api.segments_of(user) == [kept], what="the end")
    last = api.changed(user, add=[deleted], remove=[kept])

    def whole_history() -> Any:
        rows = api.history(user, last["position"]).json()["items"]
        return rows if len(rows) == 7 else None

    rows = support.wait_until(whole_history, what="the rows of the deletion and of the end")
    held: dict[str, str | None] = {}
    for row in reversed(rows):
        before_ms = from_rfc3339(row["at"]) - 1
        assert_as_of(api, user, before_ms, held, rows)
        if row["operation"] == "remove":
            held.pop(row["segment"])
        else:
            held[row["segment"]] = row["expires_at"]
    assert_as_of(api, user, from_rfc3339(rows[0]["at"]), held, rows)
    assert {row["cause"] for row in rows} == {"command", "expired", "segment_deleted"}
    [expired] = [row for row in rows if row["cause"] == "expired"]
    assert from_rfc3339(expired["at"]) == ends_ms


def assert_as_of(
    api: Api, user: str, at_ms: int, held: dict[str, str | None], rows: list[Any]
) -> None:
    """Where two rows share an instant the state between them was never there to be seen."""
    if sum(from_rfc3339(row["at"]) == at_ms + 1 for row in rows) > 1:
        return
    response = as_of(api, user, to_rfc3339(at_ms))
    assert response.status_code == 200, response.text
    body = response.json()
    assert (body["user_id"], body["at"]) == (user, to_rfc3339(at_ms))
    assert {each["segment"]: each["expires_at"] for each in body["segments"]} == held
    assert [each["segment"] for each in body["segments"]] == sorted(held)
    assert response.headers["segments-complete-until"] >= body["at"]


def test_as_of_before_and_after(api: Api) -> None:
    user = api.user()
    assert as_of(api, user, "2020-01-01T00:00:00Z").json()["segments"] == []
    assert as_of(api, user, "2020-01-01T03:00:00+03:00").json()["at"] == "2020-01-01T00:00:00.000Z"
    assert_problem(as_of(api, user, "2999-01-01T00:00:00Z"), 400, "invalid")
    assert_problem(as_of(api, user, "now"), 400, "invalid")
    assert_problem(as_of(api, str(uuid.uuid4()), "2020-01-01T00:00:00Z"), 404, "user_unknown")
    assert_problem(api.get(f"/v1/users/{user}/segments?as_of=x"), 400, "invalid")
    twice = f"/v1/users/{user}/segments?at=2020-01-01T00:00:00Z&at=2021-01-01T00:00:00Z"
    assert_problem(api.get(twice), 400, "invalid")


def test_twenty_equal_additions_at_once(api: Api) -> None:
    """One membership, one row, and an answer for everybody."""
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
