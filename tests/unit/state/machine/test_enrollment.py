"""Newcomers: who joins a segment after its share was given, and who does not (B5)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine.assignment_examples import auto, lowest, members, world_of
from tests.support.machine.assignment_oracle import place
from tests.support.machine.assignment_world import AssignmentWorld
from tests.support.machine.world import user_id


def test_newcomers_join_by_the_same_threshold() -> None:
    world = world_of(200)
    world.create("in")
    auto(world, "open", percent=20, newcomers=True)
    auto(world, "closed", percent=20)
    auto(world, "filtered", percent=100, newcomers=True, include=["in"])
    for number in range(200, 400):
        world.user("active", user_id(number))
    world.run()
    newcomers = [user_id(n) for n in range(200, 400)]
    last = max(place("open", 1, user) for user in members(world, "open", 200))
    joined = {user for user in newcomers if "open" in world.memberships(user)}
    assert joined == {user for user in newcomers if place("open", 1, user) <= last}
    assert 20 <= len(joined) <= 60
    assert not any("closed" in world.memberships(user) for user in newcomers)
    world.advance_clock(1_000)
    world.change(user_id(7), add=["in"])
    assert "filtered" in world.memberships(user_id(7))
    [row] = world.rows(user_id=user_id(7), segment="filtered")
    assert (row.cause, row.at, row.command_id) == ("auto", world.clock_ms, None)
    world.check_newcomers()
    world.check()


def test_who_becomes_eligible_during_a_round_is_judged_by_its_threshold() -> None:
    world = world_of(100, partitions=2)
    world.send(type="create_segment", segment="A", auto={"percent": 50, "newcomers": True})
    home = world.shard_of("A").config.partition
    world.apply(home)
    # Both shards have counted, nobody knows the threshold yet.
    for partition in range(2):
        while world.in_flight[home, partition]:
            world.deliver(home, partition)
        while world.shards[partition].behind:
            world.apply(partition)
    for number in range(100, 200):
        world.user("active", user_id(number))
    world.settle()
    world.check_rounds()
    world.check_newcomers()
    late = [user_id(n) for n in range(100, 200) if "A" in world.memberships(user_id(n))]
    assert 30 <= len(late) <= 70
    world.check()


def test_a_deleted_filter_lets_nobody_through_and_keeps_nobody_out() -> None:
    world = world_of(20)
    world.create("gone")
    auto(world, "inside", percent=100, include=["gone"], newcomers=True)
    world.change(user_id(0), add=["gone"])
    world.change(user_id(1), add=["gone"])
    auto(world, "outside", percent=100, exclude=["gone"], newcomers=True)
    assert members(world, "inside", 20) == {user_id(0), user_id(1)}
    assert members(world, "outside", 20) == {user_id(n) for n in range(2, 20)}
    world.delete("gone")
    world.settle()
    assert members(world, "inside", 20) == {user_id(0), user_id(1)}, "nobody loses it"
    assert len(members(world, "outside", 20)) == 20, "who is no longer kept out, joins"
    world.check_newcomers()
    world.check()


def test_an_empty_population_and_then_newcomers() -> None:
    world = AssignmentWorld(2)
    definition = auto(world, "A", percent=50, newcomers=True)
    assert definition["auto"]["target"] == 0
    for number in range(200):
        world.user("active", user_id(number))
    world.run()
    assert 70 <= len(members(world, "A", 200)) <= 130
    world.check_newcomers()
    world.check()


def touch(world: AssignmentWorld, users: int) -> None:
    """Change every user's document in a way that no rule of these tests looks at."""
    world.create("touched")
    for number in range(users):
        world.change(user_id(number), add=["touched"])
        world.change(user_id(number), remove=["touched"])
    world.settle()


def name_whose_first_stands_before(share: float, users: int) -> str:
    """A segment of whose order the first of these users stands within a share of all places."""
    everybody = [user_id(n) for n in range(users)]
    return next(
        name
        for name in (f"S{number}" for number in range(1_000))
        if min(place(name, 1, user) for user in everybody)[0] < share * 2**64
    )


def test_a_share_of_nobody_can_be_raised() -> None:
    world = AssignmentWorld(2)
    auto(world, "A", percent=10, newcomers=True)
    result = world.do(type="update_segment", segment="A", auto={"percent": 40, "newcomers": True})
    assert result["status"] == "applied"
    world.settle()
    for number in range(200):
        world.user("active", user_id(number))
    world.run()
    joined = members(world, "A", 200)
    assert joined == {user_id(n) for n in range(200) if place("A", 1, user_id(n))[0] < 0.4 * 2**64}
    world.check_newcomers()
    world.check()


def test_who_was_counted_and_not_chosen_is_no_newcomer() -> None:
    name = name_whose_first_stands_before(0.02, 20)
    world = world_of(20)
    definition = auto(world, name, percent=2.4, newcomers=True)
    assert definition["auto"]["target"] == 0
    touch(world, 20)
    assert members(world, name, 20) == set()
    first = lowest(name, [user_id(n) for n in range(20)], 1)
    threshold = int(world.definitions[name]["auto"]["threshold"], 16)
    assert threshold <= min(place(name, 1, user) for user in first)[0]
    world.check_newcomers()
    world.check()


def test_other_filters_let_in_at_once_whoever_stands_before_the_threshold() -> None:
    world = world_of(120)
    world.create("in")
    for number in range(60):
        world.change(user_id(number), add=["in"])
    auto(world, "A", percent=50, include=["in"], newcomers=True)
    before = members(world, "A", 120)
    assert len(before) == 30
    last = max(place("A", 1, user) for user in before)
    world.advance_clock(1_000)
    rule = {"percent": 50, "newcomers": True}
    assert world.do(type="update_segment", segment="A", auto=rule)["status"] == "applied"
    world.settle()
    after = members(world, "A", 120)
    assert before < after
    assert after == {user_id(n) for n in range(120) if place("A", 1, user_id(n)) <= last}
    assert {row.at for row in world.rows(segment="A")} == {world.clock_ms - 1_000, world.clock_ms}
    assert world.definitions["A"]["state"] == "active"
    world.check_newcomers()
    world.check()


def test_newcomers_can_be_let_in_later_on() -> None:
    world = world_of(50)
    auto(world, "A", percent=40)
    for number in range(50, 100):
        world.user("active", user_id(number))
    world.run()
    assert len(members(world, "A", 100)) == 20
    last = max(place("A", 1, user) for user in members(world, "A", 100))
    world.do(type="update_segment", segment="A", auto={"percent": 40, "newcomers": True})
    world.settle()
    joined = {user_id(n) for n in range(100) if place("A", 1, user_id(n)) <= last}
    assert members(world, "A", 100) == joined
    assert len(joined) > 20
    world.check()


def test_a_raise_with_other_filters_is_exact_and_finds_its_own_threshold() -> None:
    world = world_of(200)
    world.create("one", "two")
    for number in range(200):
        world.change(user_id(number), add=["one" if number < 100 else "two"])
    auto(world, "A", percent=60, include=["one"], newcomers=True)
    rule = {"percent": 61, "include": ["two"], "newcomers": True}
    world.do(type="update_segment", segment="A", auto=rule)
    world.settle()
    # 61 % of the 100 let through now and of the 60 who have it: 98, less those 60.
    two = [user_id(n) for n in range(100, 200)]
    assert members(world, "A", 200) & set(two) == lowest("A", two, 38)
    touch(world, 200)
    assert len(members(world, "A", 200)) == 98, "who was not chosen does not join by and by"
    world.check_newcomers()
    world.check()


def test_who_was_kept_out_by_what_was_still_to_be_written_joins_when_it_is_deleted() -> None:
    world = world_of(40, partitions=2, job_slice=1)
    world.create("A", auto={"percent": 100})
    world.create("B", auto={"percent": 100, "exclude": ["A"], "newcomers": True})
    assert world.definitions["B"]["auto"]["target"] == 0
    world.delete("A")
    world.settle()
    assert len(members(world, "B", 40)) == 40
    world.check_newcomers()
    world.check()


def test_an_end_lets_in_whom_it_kept_out() -> None:
    world = world_of(10)
    world.create("out")
    for number in range(10):
        world.change(user_id(number), add=[{"segment": "out", "ttl": 5}])
    auto(world, "A", percent=100, exclude=["out"], newcomers=True)
    assert members(world, "A", 10) == set()
    world.advance_clock(5_000)
    world.settle()
    assert len(members(world, "A", 10)) == 10
    world.check()


def test_filters_that_change_again_and_a_raise_before_all_are_let_in() -> None:
    world = world_of(90, partitions=2, job_slice=1)
    world.create("in")
    for number in range(30):
        world.change(user_id(number), add=["in"])
    auto(world, "A", percent=50, include=["in"], newcomers=True)
    world.do(type="update_segment", segment="A", auto={"percent": 50, "newcomers": True})
    for shard in world.shards:
        shard.checkpoint()
    world.tick()
    for shard in world.shards:
        shard.crash()
    assert len(members(world, "A", 90)) < 45
    more = {"percent": 70, "newcomers": True}
    assert world.do(type="update_segment", segment="A", auto=more)["status"] == "applied"
    world.settle()
    everybody = [user_id(n) for n in range(90)]
    assert members(world, "A", 90) == lowest("A", everybody, 63)
    world.check_rounds()
    world.check_newcomers()
    world.check()


@pytest.mark.parametrize("rule", [{"count": 5}, {"percent": 50}])
def test_the_threshold_does_not_sink_with_a_full_user_before_it(rule: dict[str, Any]) -> None:
    world = world_of(40, segments_per_user=1)
    world.create("full")
    everybody = [user_id(n) for n in range(40)]
    [first] = lowest("A", everybody, 1)
    world.change(first, add=["full"])
    auto(world, "A", **rule, newcomers=True)
    before = world.definitions["A"]["auto"]["threshold"]
    more = {name: value * 1.02 if name == "percent" else value + 1 for name, value in rule.items()}
    world.do(type="update_segment", segment="A", auto=more | {"newcomers": True})
    world.settle()
    assert world.definitions["A"]["auto"]["threshold"] >= before
    world.change(first, remove=["full"])
    assert "A" in world.memberships(first), "there is room now"
    world.check()
