"""Stored responses about users: contents and validity."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from segments.state.view import responses
from segments.state.view.view import View
from segments.state.view.writer import ViewBatch
from tests.support.view.view_records import ViewFiller, held, opened

USER = str(UUID(int=7))
NOW_MS = 1_795_500_000_000


def said(view: View, now_ms: int = NOW_MS) -> Any:
    made = view.response(USER, now_ms)
    return None if made is None else orjson.loads(made.body)


def test_a_stored_response_equals_the_built_one(view: View, fill: ViewFiller) -> None:
    fill.user(USER, {"b": held(since=1_500), "A": held(expires_at=NOW_MS + 1)}, account="blocked")
    assert said(view) == {
        "user_id": USER,
        "account": "blocked",
        "segments": [
            {
                "segment": "A",
                "since": "1970-01-01T00:00:00.000Z",
                "expires_at": "2026-11-24T06:00:00.001Z",
                "origin": "command",
            },
            {
                "segment": "b",
                "since": "1970-01-01T00:00:01.500Z",
                "expires_at": None,
                "origin": "command",
            },
        ],
    }
    made = view.response(USER, NOW_MS)
    assert made is not None
    assert made.digest == responses.digest(made.body)


def test_a_stored_response_is_valid_until_the_first_expiry(view: View, fill: ViewFiller) -> None:
    fill.user(USER, {"A": held(expires_at=NOW_MS + 5), "B": held(expires_at=NOW_MS), "C": held()})
    assert said(view, NOW_MS - 1) is not None
    assert said(view, NOW_MS) is None


def test_the_partition_is_that_of_the_shard(view: View) -> None:
    document = {
        "user_id": USER,
        "account": "active",
        "segments": {},
        "position": "1023:42",
        "at": 1,
    }
    batch = ViewBatch(view)
    batch.user(USER.encode(), orjson.dumps(document))
    batch.write()
    made = view.response(USER, NOW_MS)
    assert made is not None
    assert made.partition == 1023


def test_no_response_for_unknown_or_deleted_users_or_very_many_segments(
    view: View, fill: ViewFiller
) -> None:
    many = {f"S{n}": held() for n in range(responses.MEMBERSHIPS_MAX + 1)}
    assert said(view) is None
    for segments, account in (({}, "deleted"), (many, "active"), ({"A": held()}, "active")):
        fill.user(USER, {"A": held()})
        assert said(view) is not None
        fill.user(USER, segments, account)
        assert (said(view) is None) == (account == "deleted" or segments is many)
    with fill as batch:
        batch.user(USER.encode(), None)
    assert said(view) is None


def test_the_response_is_that_of_the_last_document_in_a_batch(view: View, fill: ViewFiller) -> None:
    with fill as batch:
        for name in ("A", "B"):
            batch.user(USER.encode(), _document(name))
    assert [each["segment"] for each in said(view)["segments"]] == ["B"]


def _document(name: str) -> bytes:
    return orjson.dumps(
        {
            "user_id": USER,
            "account": "active",
            "segments": {name: held()},
            "position": "0:1",
            "at": 1,
        }
    )


def test_no_stored_response_while_a_deleted_segment_has_members(tmp_path: Path) -> None:
    other = str(UUID(int=8))
    view = opened(tmp_path / "view")
    fill = ViewFiller(view)
    fill.user(USER, {"A": held()})
    fill.user(other, {"B": held()})
    fill.define("B", state="deleted")
    assert view.stale == {("B", 1)}
    assert said(view) is None, "whoever it is that has it: none of the answers is looked into"
    view.close()
    view = opened(tmp_path / "view")
    assert view.stale == {("B", 1)}
    ViewFiller(view).user(other, {})
    assert said(view) is not None
    view.close()


def test_stale_generations_are_known_before_documents_with_them_are_readable(
    view: View, fill: ViewFiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A document can come after the definition that ended its segment's generation."""
    fill.define("A", 2)
    seen: list[set[tuple[str, int]]] = []

    class Watched:
        def write(self, batch: Any) -> None:
            seen.append(view.stale)
            database.write(batch)

        def get(self, key: bytes) -> Any:
            return database.get(key)

    database = view.database
    monkeypatch.setattr(view, "_db", Watched())
    fill.user(USER, {"A": held(1)})
    fill.user(USER, {"A": held(2)})
    assert seen == [{("A", 1)}, {("A", 1)}]
    assert view.stale == set()
    monkeypatch.undo()


def test_a_response_read_while_stale_generations_changed_is_discarded(
    view: View, fill: ViewFiller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at the dead and the read, a member came and went."""
    fill.define("A", 2)
    database = view.database

    class Slow:
        def get(self, key: bytes) -> Any:
            monkeypatch.undo()
            writer = threading.Thread(target=come_and_go)
            fill.user(USER, {"A": held(1)})
            raw = database.get(key)
            writer.start()
            writer.join()
            return raw

    def come_and_go() -> None:
        fill.user(USER, {"A": held(2)})

    monkeypatch.setattr(view, "_db", Slow())
    assert view.response(USER, NOW_MS) is None
    assert view.stale == set()
    assert said(view) is not None
