"""Expiry of memberships: exact times, whatever record discovers it."""

from __future__ import annotations

import pytest

from segments.contracts.times import to_rfc3339
from tests.support.machine.world import ALICE, START_MS, World, user_id


@pytest.fixture
def world() -> World:
    world = World()
    world.create("a", "b", "c", "d")
    return world


def add(world: World, segment: str, ms: int, user: str = ALICE) -> None:
    """Add a segment that ends so many milliseconds from now."""
    result = world.change(user=user, add=[{"segment": segment, "ttl": ms / 1000}])
    assert result["status"] == "applied"


def ends(world: World) -> list[tuple[str, int, str]]:
    removed = world.rows(operation="remove")
    return [(row.segment, row.at - START_MS, row.cause) for row in removed]


def test_an_expiry_row_has_the_time_of_expiry_not_of_its_discovery(
    world: World,
) -> None:
    add(world, "a", 300)
    world.advance_clock(1_000)
    world.tick()
    [row] = world.rows(operation="remove")
    assert (row.at, row.cause) == (START_MS + 300, "expired")
    assert (row.command_id, row.actor, row.expires_at) == (None, None, START_MS + 300)
    document = world.shards[0].documents[ALICE]
    assert (document["segments"], document["at"]) == ({}, START_MS + 1_000)


def test_memberships_expire_exactly_on_time(world: World) -> None:
    add(world, "a", 300)
    world.advance_clock(299)
    world.tick()
    assert world.memberships() == {"a": START_MS + 300}
    assert list(world.due()) == [START_MS + 300]
    world.advance_clock(1)
    world.tick()
    assert ends(world) == [("a", 300, "expired")]
    assert list(world.due()) == [None]


def test_expiries_are_written_first_and_oldest_first(world: World) -> None:
    add(world, "d", 100)
    add(world, "b", 300)
    add(world, "a", 200)
    add(world, "c", 10_000)
    world.advance_clock(300)
    world.change(add=["a"], remove=["c"], id="x")
    rows = [(r.segment, r.operation, r.at - START_MS) for r in world.history[4:]]
    assert rows == [
        ("d", "remove", 100),
        ("a", "remove", 200),
        ("b", "remove", 300),
        ("a", "add", 300),
        ("c", "remove", 300),
    ]


def test_simultaneous_expiries_are_ordered_by_segment_name(world: World) -> None:
    for segment in ("c", "a", "d", "b"):
        add(world, segment, 100)
    world.advance_clock(100)
    world.tick()
    assert ends(world) == [(name, 100, "expired") for name in "abcd"]


def test_a_command_at_the_time_of_expiry_finds_no_membership(world: World) -> None:
    add(world, "a", 100)
    world.advance_clock(100)
    assert world.change(remove=["a"])["status"] == "unchanged"
    assert ends(world) == [("a", 100, "expired")]


def test_a_command_just_before_expiry_finds_the_membership(world: World) -> None:
    add(world, "a", 100)
    world.advance_clock(99)
    assert world.change(remove=["a"])["status"] == "applied"
    assert ends(world) == [("a", 99, "command")]
    world.advance_clock(1)
    world.tick()
    assert len(ends(world)) == 1


def test_adding_after_expiry_creates_a_new_membership(world: World) -> None:
    add(world, "a", 100)
    world.advance_clock(150)
    add(world, "a", 100)
    state = world.state()
    assert state is not None
    assert state["segments"]["a"]["since"] == START_MS + 150
    assert [(r.operation, r.at - START_MS) for r in world.rows(segment="a")] == [
        ("add", 0),
        ("remove", 100),
        ("add", 150),
    ]


@pytest.mark.parametrize(("later_end", "expected"), [(500, 500), (50, 50), (None, None)])
def test_only_the_newest_expiry_counts(
    world: World, later_end: int | None, expected: int | None
) -> None:
    add(world, "a", 100)
    if later_end is None:
        world.change(add=["a"])
    else:
        world.change(add=[{"segment": "a", "expires_at": to_rfc3339(START_MS + later_end)}])
    world.advance_clock(10_000)
    world.tick()
    assert ends(world) == ([] if expected is None else [("a", expected, "expired")])


def test_a_removed_membership_does_not_expire(world: World) -> None:
    add(world, "a", 100)
    world.change(remove=["a"])
    world.change(add=["a"])
    assert list(world.due()) == [None]
    world.advance_clock(100)
    world.tick()
    assert world.memberships() == {"a": None}


def test_a_tick_expires_at_most_one_slice_oldest_first() -> None:
    world = World(job_slice=2)
    world.create("a")
    for number, ms in enumerate([300, 100, 200, 100, 400]):
        add(world, "a", ms, user_id(number))
    world.advance_clock(1_000)
    order = [1, 3, 2, 0, 4]
    for served in (2, 4, 5, 5):
        world.tick()
        removed = world.rows(operation="remove")
        assert [r.user_id for r in removed] == [user_id(n) for n in order[:served]]
    assert list(world.due()) == [None]
    world.check()


def test_log_time_does_not_go_back_with_the_brokers_clock(world: World) -> None:
    add(world, "a", 100)
    world.advance_clock(100)
    world.tick()
    world.advance_clock(-5_000)
    result = world.change(add=["b"])
    assert result["at"] == to_rfc3339(START_MS + 100)
    add(world, "c", 50)
    assert world.memberships() == {"b": None, "c": START_MS + 150}
    assert world.shards[0].machine.shard["log_time"] == START_MS + 100
    instants = [row.at for row in world.history]
    assert instants == sorted(instants)


def test_a_tick_expires_a_membership_and_another_users_record_does_not(world: World) -> None:
    add(world, "a", 100)
    world.advance_clock(100)
    world.change(user=user_id(1), add=["b"])
    assert ends(world) == []
    world.tick()
    assert ends(world) == [("a", 100, "expired")]


def test_rejected_and_repeated_commands_write_due_expiries_too(world: World) -> None:
    world.change(add=["d"], id="x")
    add(world, "a", 100)
    add(world, "b", 200)
    world.advance_clock(100)
    world.change(add=["d"], id="x")
    assert ends(world) == [("a", 100, "expired")]
    world.delete("c")
    world.advance_clock(100)
    assert world.change(add=["c"])["status"] == "rejected"
    assert ends(world) == [("a", 100, "expired"), ("b", 200, "expired")]


def test_an_expiry_frees_space_for_the_command_that_finds_it() -> None:
    world = World(segments_per_user=1)
    world.create("a", "b")
    add(world, "a", 100)
    world.advance_clock(100)
    assert world.change(add=["b"])["status"] == "applied"


def test_many_expiries_of_one_user_at_once(world: World) -> None:
    names = [f"s{number}" for number in range(50)]
    world.create(*names)
    for number, name in enumerate(names):
        add(world, name, 1_000 - number)
    world.advance_clock(10_000)
    world.tick()
    assert ends(world) == [
        (f"s{number}", 1_000 - number, "expired") for number in reversed(range(50))
    ]
    world.check()
