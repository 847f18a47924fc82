"""A user's history and memberships as of past timestamps, on a real broker."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest

from segments.contracts.times import from_rfc3339, to_rfc3339
from tests.support import deployments
from tests.support.api import Api
from tests.support.sidecar import assert_problem


def now_ms() -> int:
    return time.time_ns() // 1_000_000


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


def test_history_of_unknown_users(api: Api) -> None:
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
def test_invalid_history_queries(api: Api, query: str) -> None:
    assert_problem(api.get(f"/v1/users/{uuid.uuid4()}/history?{query}"), 400, "invalid")


def as_of(api: Api, user: str, at: str, **headers: str) -> Any:
    return api.get(
        f"/v1/users/{user}/segments", params={"at": at}, headers={"Prefer": "wait=20"} | headers
    )


def test_memberships_as_of_past_timestamps(api: Api) -> None:
    """Compared with an oracle built from the history, with expiries and deleted segments."""
    user = api.user()
    kept, deleted, ending = api.segment("k"), api.segment("d"), api.segment("e")
    api.changed(user, add=[kept])
    # Still in the future when the command is applied, even on a busy machine.
    ends_ms = now_ms() + 3_000
    api.changed(user, add=[{"segment": ending, "expires_at": to_rfc3339(ends_ms)}, deleted])
    api.delete(deleted)
    api.client.post("/v1/segments", json={"segment": deleted})
    deployments.wait_until(lambda: api.segments_of(user) == [kept], what="the end")
    last = api.changed(user, add=[deleted], remove=[kept])

    def whole_history() -> Any:
        rows = api.history(user, last["position"]).json()["items"]
        return rows if len(rows) == 7 else None

    rows = deployments.wait_until(whole_history, what="the rows of the deletion and of the end")
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
    """The state between two rows with the same timestamp is never visible."""
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
