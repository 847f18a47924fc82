"""Enrollment of users that become eligible after a round."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine.assignment_examples import auto, lowest, members, world_of
from tests.support.machine.assignment_oracle import place
from tests.support.machine.assignment_world import AssignmentWorld
from tests.support.machine.world import user_id


def test_new_users_join_up_to_the_threshold() -> None:
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


def test_users_eligible_during_a_round_join_by_its_threshold() -> None:
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


def test_a_deleted_segment_in_filters_admits_and_excludes_nobody() -> None:
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


def test_new_users_join_after_a_round_without_users() -> None:
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


def test_a_rule_without_eligible_users_can_be_raised() -> None:
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


def test_a_counted_user_who_was_not_selected_does_not_join_later() -> None:
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


def test_changed_filters_enroll_users_up_to_the_threshold_at_once() -> None:
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


def test_newcomers_can_be_enabled_later() -> None:
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


def test_raising_with_other_filters_is_exact_and_sets_a_new_threshold() -> None:
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


def test_users_excluded_by_a_pending_assignment_join_when_it_is_deleted() -> None:
    world = world_of(40, partitions=2, job_slice=1)
    world.create("A", auto={"percent": 100})
    world.create("B", auto={"percent": 100, "exclude": ["A"], "newcomers": True})
    assert world.definitions["B"]["auto"]["target"] == 0
    world.delete("A")
    world.settle()
    assert len(members(world, "B", 40)) == 40
    world.check_newcomers()
    world.check()


def test_an_expired_exclusion_enrolls_the_user() -> None:
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


def test_filters_change_and_rule_is_raised_during_enrollment() -> None:
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
def test_a_skipped_user_does_not_lower_the_threshold(rule: dict[str, Any]) -> None:
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
