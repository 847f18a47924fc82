"""Account states: order of refreshes, deletion, users known only from commands."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest

from segments.contracts.partitioning import partition_of
from tests.support.machine.world import ALICE, START_MS, World, user_id


@pytest.fixture
def world() -> World:
    world = World()
    world.create("a", "b")
    return world


def say(world: World, account: str, offset: int, **fields: Any) -> None:
    world.user(account, refresh=("r", 0, offset), **fields)
    world.run()


def account(world: World, user: str = ALICE) -> str | None:
    state = world.state(user)
    return None if state is None else state["account"]


def test_an_unknown_user_in_a_command_is_fetched_once() -> None:
    world = World(partitions=2)
    world.create("a", "b")
    world.change(add=["a"])
    world.change(add=["b"])
    world.change(user=user_id(1), remove=["a"])
    assert world.refreshes == [
        {"user_id": ALICE, "reason": "unknown"},
        {"user_id": user_id(1), "reason": "unknown"},
    ]
    assert account(world) == "unknown"
    produced = chain.from_iterable(world.shard_of(ALICE).outputs)
    outputs = [o for o in produced if o.topic == "users.refreshes"]
    assert [o.partition for o in outputs if o.key == ALICE] == [partition_of(ALICE, 2)]


def test_a_known_user_is_not_fetched(world: World) -> None:
    say(world, "active", 0)
    world.change(add=["a"])
    assert world.refreshes == []
    assert account(world) == "active"


def test_unknown_users_can_be_rejected() -> None:
    world = World(accept_unknown_users=False)
    world.create("a")
    refused = world.change(add=["a"], id="x")
    assert (refused["status"], refused["error"]["code"]) == ("rejected", "user_unknown")
    assert world.state() is None
    assert world.refreshes == []
    assert ALICE not in world.shards[0].documents
    say(world, "active", 0)
    assert world.change(add=["a"], id="y")["status"] == "applied"


def test_an_unknown_user_that_is_not_found_loses_its_memberships(world: World) -> None:
    world.change(add=["b", "a"], actor="me")
    world.advance_clock(30)
    say(world, "deleted", 0)
    assert world.memberships() == {}
    removed = world.rows(operation="remove")
    assert [(r.segment, r.at, r.cause, r.command_id, r.actor) for r in removed] == [
        ("a", START_MS + 30, "user_deleted", None, None),
        ("b", START_MS + 30, "user_deleted", None, None),
    ]


def test_every_change_of_the_account_is_published(world: World) -> None:
    for offset, state in enumerate(["active", "blocked", "active", "deleted", "active"]):
        world.advance_clock(1)
        say(world, state, offset)
        document = world.shards[0].documents[ALICE]
        assert (document["account"], document["at"]) == (state, START_MS + offset + 1)
    world.check()


def test_a_blocked_user_keeps_memberships_and_can_get_more(world: World) -> None:
    say(world, "active", 0)
    world.change(add=["a"])
    say(world, "blocked", 1)
    assert world.memberships() == {"a": None}
    assert world.change(add=["b"])["status"] == "applied"


def test_a_deleted_user_has_and_gets_no_memberships(world: World) -> None:
    world.change(add=["a"], id="x")
    say(world, "deleted", 0)
    refused = world.change(add=["a"], remove=["nowhere"])
    assert (refused["status"], refused["error"]["code"]) == ("rejected", "user_deleted")
    assert world.change(add=["a"], id="x")["status"] == "applied"
    assert world.memberships() == {}


def test_a_user_created_again_starts_without_segments(world: World) -> None:
    world.change(add=["a", "b"])
    say(world, "deleted", 0)
    say(world, "active", 1)
    assert (account(world), world.memberships()) == ("active", {})
    world.advance_clock(10)
    world.change(add=["a"])
    assert [(r.operation, r.cause) for r in world.rows(segment="a")] == [
        ("add", "command"),
        ("remove", "user_deleted"),
        ("add", "command"),
    ]


def test_a_state_fetched_for_an_older_event_is_ignored(world: World) -> None:
    say(world, "deleted", 5)
    say(world, "active", 4)
    assert account(world) == "deleted"
    say(world, "active", 6)
    assert account(world) == "active"
    say(world, "deleted", 5)
    assert account(world) == "active"


def test_a_state_fetched_again_for_the_same_event_is_applied(world: World) -> None:
    say(world, "active", 5)
    say(world, "blocked", 5)
    assert account(world) == "blocked"


@pytest.mark.parametrize("refresh", [("s", 0, 0), ("r", 1, 0)])
def test_another_topic_starts_a_new_order(world: World, refresh: tuple[str, int, int]) -> None:
    say(world, "active", 5)
    world.user("blocked", refresh=refresh)
    world.run()
    assert account(world) == "blocked"
    say(world, "active", 4)
    assert account(world) == "active"


@pytest.mark.parametrize("later", ["active", "blocked", "deleted"])
def test_a_lower_version_is_ignored(world: World, later: str) -> None:
    world.change(add=["a"])
    say(world, "active", 0, version=7)
    say(world, later, 1, version=6)
    assert (account(world), world.memberships()) == ("active", {"a": None})
    state = world.state()
    assert state is not None
    assert (state["version"], state["refresh"]) == (7, ["r", 0, 0])
    say(world, "blocked", 1, version=7)
    assert account(world) == "blocked"


def test_a_user_not_found_resets_the_version(world: World) -> None:
    say(world, "active", 0, version=7)
    say(world, "deleted", 1)
    say(world, "active", 2, version=1)
    assert account(world) == "active"


def test_a_higher_version_does_not_override_the_order_of_events(world: World) -> None:
    say(world, "active", 5, version=1)
    say(world, "deleted", 4, version=9)
    assert account(world) == "active"


def test_memberships_expired_before_the_user_was_deleted_are_expiries(world: World) -> None:
    world.change(add=[{"segment": "a", "ttl": 1}, "b"])
    world.advance_clock(2_000)
    say(world, "deleted", 0)
    assert [(r.segment, r.at - START_MS, r.cause) for r in world.rows(operation="remove")] == [
        ("a", 1_000, "expired"),
        ("b", 2_000, "user_deleted"),
    ]
    assert list(world.due()) == [None]


def test_a_stale_state_does_not_settle_the_user(world: World) -> None:
    world.change(add=[{"segment": "a", "ttl": 1}])
    say(world, "active", 5)
    world.advance_clock(2_000)
    offset = world.shards[0].applied
    say(world, "blocked", 4)
    assert world.shards[0].outputs[offset] == []
    world.tick()
    assert world.memberships() == {}


def test_an_unchanged_state_publishes_nothing(world: World) -> None:
    say(world, "active", 0)
    position = world.shards[0].documents[ALICE]["position"]
    say(world, "active", 1)
    assert world.shards[0].documents[ALICE]["position"] == position
    state = world.state()
    assert state is not None
    assert state["refresh"] == ["r", 0, 1]


def test_a_user_first_seen_as_deleted_stays_deleted(world: World) -> None:
    say(world, "deleted", 3)
    assert account(world) == "deleted"
    assert world.change(add=["a"])["error"]["code"] == "user_deleted"
    assert world.refreshes == []


def test_events_in_any_order_leave_the_state_of_the_newest() -> None:
    states = ["active", "blocked", "deleted", "active", "blocked"]
    for shift in range(5):
        world = World()
        order = [(number * 2 + shift) % 5 for number in range(5)]
        for offset in [*order, *order]:
            say(world, states[offset], offset)
        assert account(world) == states[4]
