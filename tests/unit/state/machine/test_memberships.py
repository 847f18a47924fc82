"""Membership changes of one user: applied, unchanged, or rejected as a whole."""

from __future__ import annotations

from typing import Any

import pytest

from segments.contracts.times import MAX_TTL_MS, to_rfc3339
from tests.support.machine.world import ALICE, START_MS, Row, World, user_id


@pytest.fixture
def world() -> World:
    world = World()
    world.create("a", "b", "c")
    return world


def until(segment: str, at_ms: int) -> dict[str, str]:
    return {"segment": segment, "expires_at": to_rfc3339(at_ms)}


def error(result: dict[str, Any]) -> tuple[str, list[str] | None]:
    assert result["status"] == "rejected"
    assert result["changes"] == []
    return result["error"]["code"], result["error"].get("segments")


def operations(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["segment"], change["operation"]) for change in result["changes"]]


def test_an_addition_produces_membership_result_and_history_row(world: World) -> None:
    world.advance_clock(7)
    offset = world.shards[0].applied
    result = world.change(add=["a"], id="c", actor="shop")
    assert result == {
        "command_id": "c",
        "status": "applied",
        "error": None,
        "changes": [{"segment": "a", "operation": "add"}],
        "position": f"0:{offset}",
        "at": to_rfc3339(START_MS + 7),
    }
    assert world.history == [Row(ALICE, "a", 1, "add", START_MS + 7, "command", "c", "shop", None)]
    assert world.shards[0].documents[ALICE] == {
        "user_id": ALICE,
        "account": "unknown",
        "segments": {
            "a": {
                "since": START_MS + 7,
                "expires_at": None,
                "origin": "command",
                "generation": 1,
            }
        },
        "position": f"0:{offset}",
        "at": START_MS + 7,
    }


def test_adding_an_existing_membership_changes_nothing(world: World) -> None:
    world.change(add=["a", until("b", START_MS + 500)])
    world.advance_clock(5)
    again = world.change(add=["a", until("b", START_MS + 500)])
    assert (again["status"], again["changes"]) == ("unchanged", [])
    assert len(world.history) == 2
    state = world.state()
    assert state is not None
    assert state["segments"]["a"]["since"] == START_MS


def test_removing_a_missing_membership_changes_nothing(world: World) -> None:
    assert world.change(remove=["a"])["status"] == "unchanged"
    assert world.history == []


def test_the_result_of_a_mixed_command_lists_only_changes(world: World) -> None:
    world.change(add=["a", "b"])
    mixed = world.change(add=["c", "a"], remove=["b"])
    assert mixed["status"] == "applied"
    assert operations(mixed) == [("c", "add"), ("b", "remove")]
    assert world.memberships() == {"a": None, "c": None}


def test_additions_come_in_command_order_before_removals(world: World) -> None:
    world.change(add=["a"])
    result = world.change(add=["c", "b"], remove=["a"], id="x")
    expected = [("c", "add"), ("b", "add"), ("a", "remove")]
    assert operations(result) == expected
    assert [(r.segment, r.operation) for r in world.rows(command_id="x")] == expected


@pytest.mark.parametrize(
    ("before", "after"), [(None, 900), (900, None), (900, 1_500), (1_500, 900)]
)
def test_a_new_expiry_replaces_the_previous_one(
    world: World, before: int | None, after: int | None
) -> None:
    def addition(end: int | None) -> Any:
        return "a" if end is None else until("a", START_MS + end)

    world.change(add=[addition(before)])
    world.advance_clock(10)
    result = world.change(add=[addition(after)], id="x")
    assert operations(result) == [("a", "extend")]
    end = after and START_MS + after
    assert world.memberships() == {"a": end}
    state = world.state()
    assert state is not None
    assert state["segments"]["a"]["since"] == START_MS
    [row] = world.rows(command_id="x")
    assert (row.operation, row.at, row.expires_at) == ("extend", START_MS + 10, end)


def test_the_row_of_a_removal_contains_the_planned_expiry(world: World) -> None:
    world.change(add=[until("a", START_MS + 500)])
    world.change(remove=["a"], id="x")
    [row] = world.rows(command_id="x")
    assert (row.operation, row.expires_at) == ("remove", START_MS + 500)


@pytest.mark.parametrize(
    "fields",
    [
        {"add": ["a", "x"], "remove": ["y", "b"]},
        {"add": ["x", "a"], "remove": ["b", "y"]},
        {"add": ["c", "x", "y"]},
        {"remove": ["b", "x", "y"]},
    ],
)
def test_an_unknown_segment_rejects_the_whole_command(world: World, fields: dict[str, Any]) -> None:
    world.change(add=["b"])
    command_id = world.send(type="change_memberships", user_id=ALICE, **fields)
    world.advance_clock(5_000)
    world.tick()
    assert error(world.result(command_id)) == ("segment_unknown", ["x", "y"])
    assert world.memberships() == {"b": None}
    assert len(world.history) == 1


def test_a_deleted_segment_rejects_the_whole_command_at_once(world: World) -> None:
    world.change(add=["b"])
    world.delete("a")
    world.delete("c")
    assert error(world.change(add=["a"], remove=["b", "c"])) == ("segment_unknown", ["a", "c"])
    assert world.memberships() == {"b": None}


def test_a_past_expiry_rejects_the_whole_command(world: World) -> None:
    past = [until("a", START_MS), until("b", START_MS - 1)]
    assert error(world.change(add=[*past, "c"])) == ("already_expired", ["a", "b"])
    assert error(world.change(add=[until("a", -62_135_596_799_000)])) == ("already_expired", ["a"])
    assert (world.memberships(), world.history) == ({}, [])
    assert world.change(add=[until("a", START_MS + 1)])["status"] == "applied"


def test_no_membership_lasts_more_than_a_hundred_years(world: World) -> None:
    longest = START_MS + MAX_TTL_MS
    too_long = [until("a", longest + 1), until("b", longest), until("c", longest + 2)]
    assert error(world.change(add=too_long)) == ("invalid", ["a", "c"])
    assert world.memberships() == {}
    assert world.change(add=[until("a", longest)])["status"] == "applied"
    assert world.change(user=user_id(1), add=[{"segment": "a", "ttl": "P36525D"}])["changes"]
    assert world.memberships(user_id(1)) == {"a": longest}


def test_segments_per_user_are_limited() -> None:
    world = World(segments_per_user=2)
    world.create("a", "b", "c", "d")
    assert error(world.change(add=["a", "b", "c"])) == ("too_many_segments", ["a", "b", "c"])
    assert world.memberships() == {}
    world.change(add=["a", "b"])
    assert error(world.change(add=["b", "c"])) == ("too_many_segments", ["c"])
    assert error(world.change(add=["c", "d"], remove=["a"])) == ("too_many_segments", ["c", "d"])
    assert world.change(add=["c"], remove=["a"])["status"] == "applied"
    assert world.change(add=[until("b", START_MS + 10)], remove=["d"])["status"] == "applied"
    world.advance_clock(10)
    assert world.change(add=["d"])["status"] == "applied"
    assert world.memberships() == {"c": None, "d": None}


def test_a_hundred_names_are_one_command() -> None:
    world = World()
    names = [f"s{n}" for n in range(100)]
    world.create(*names)
    assert len(world.change(add=names[:60])["changes"]) == 60
    assert len(world.change(add=names[60:], remove=names[:60])["changes"]) == 100
    assert list(world.memberships()) == names[60:]


def test_users_are_independent(world: World) -> None:
    for number in range(20):
        world.change(user=user_id(number), add=["a"])
    world.change(user=user_id(3), remove=["a"])
    assert [number for number in range(20) if not world.memberships(user_id(number))] == [3]
    world.check()
