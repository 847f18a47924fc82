"""Automatic assignment by example (S7, F3, F4, B5, B6)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.machine.assigned import AssignedWorld, place
from tests.machine.world import user_id


def world_of(users: int, partitions: int = 3, **limits: Any) -> AssignedWorld:
    world = AssignedWorld(partitions, **limits)
    for number in range(users):
        world.user("active", user_id(number))
    world.run()
    return world


def members(world: AssignedWorld, segment: str, users: int) -> set[str]:
    return {user_id(n) for n in range(users) if segment in world.held(user_id(n))}


def lowest(segment: str, users: list[str], count: int, generation: int = 1) -> set[str]:
    return set(sorted(users, key=lambda user: place(segment, generation, user))[:count])


def auto(world: AssignedWorld, segment: str, **rule: Any) -> dict[str, Any]:
    """Create an automatic segment and let it be written; its definition."""
    result = world.create(segment, auto=rule)
    assert result["status"] == "applied"
    world.settle()
    return world.definitions[segment]


@pytest.mark.parametrize(
    ("percent", "population", "expected"),
    [(10, 200, 20), (12.5, 20, 3), (2.5, 20, 1), (2.4, 20, 0), (33.3333, 100, 33), (100, 7, 7)],
)
def test_exactly_the_rounded_share_with_the_lowest_ranks(
    percent: float, population: int, expected: int
) -> None:
    world = world_of(population)
    definition = auto(world, "A", percent=percent)
    everybody = [user_id(n) for n in range(population)]
    assert members(world, "A", population) == lowest("A", everybody, expected)
    assert definition["state"] == "active"
    assert definition["auto"]["target"] == definition["auto"]["assigned"] == expected
    rows = world.rows(segment="A")
    assert len(rows) == expected
    assert {row.cause for row in rows} <= {"auto"}
    world.judge_rounds()
    world.check()


def test_the_same_users_for_every_number_of_partitions() -> None:
    chosen = []
    for partitions in range(1, 9):
        world = world_of(300, partitions)
        auto(world, "A", percent=17.3)
        chosen.append(members(world, "A", 300))
        world.check()
    assert len(chosen[0]) == 52
    assert all(each == chosen[0] for each in chosen)


def test_a_count_over_the_population_gives_it_to_all_and_says_so() -> None:
    world = world_of(25)
    definition = auto(world, "A", count=1_000)
    assert len(members(world, "A", 25)) == 25
    assert (definition["auto"]["count"], definition["auto"]["target"]) == (1_000, 25)


def test_the_segment_is_assigning_until_all_shards_have_written() -> None:
    world = world_of(100, job_slice=5)
    world.create("A", auto={"percent": 50})
    assert world.definitions["A"]["state"] == "assigning"
    assert world.definitions["A"]["auto"]["target"] == 50
    assert world.create("A")["error"]["code"] == "segment_exists"
    world.tick()
    assert 0 < len(members(world, "A", 100)) < 50
    world.settle()
    assert world.definitions["A"]["state"] == "active"
    assert len(members(world, "A", 100)) == 50
    world.check()


def test_filters_hold_as_of_the_decision() -> None:
    world = world_of(60)
    world.create("in", "out")
    for number in range(40):
        world.change(user_id(number), add=["in"])
    for number in range(10):
        world.change(user_id(number), add=["out"])
    world.user("blocked", user_id(20), refresh=("r", 0, 9))
    auto(world, "A", percent=50, include=["in"], exclude=["out"])
    eligible = [user_id(n) for n in range(10, 40) if n != 20]
    assert members(world, "A", 60) == lowest("A", eligible, 15)
    world.change(user_id(11), add=["out"])
    assert len(members(world, "A", 60)) == 15, "no later change takes it away"
    auto(world, "B", percent=100, accounts=["blocked"])
    assert members(world, "B", 60) == {user_id(20)}
    world.check()


def test_ends_due_before_the_decision_are_not_counted_in() -> None:
    world = world_of(40, job_slice=3)
    world.create("in")
    for number in range(40):
        ttl = {"ttl": 1} if number % 2 else {}
        world.change(user_id(number), add=[{"segment": "in", **ttl}])
    world.later(5_000)
    auto(world, "A", percent=100, include=["in"])
    assert members(world, "A", 40) == {user_id(n) for n in range(0, 40, 2)}
    world.check()


def test_raising_keeps_everybody_and_gives_exactly_the_new_number() -> None:
    world = world_of(200)
    auto(world, "A", percent=1)
    before = members(world, "A", 200)
    for percent, expected in ((5, 10), (25, 50), (100, 200)):
        result = world.do(type="update_segment", segment="A", auto={"percent": percent})
        assert result["status"] == "applied"
        world.settle()
        after = members(world, "A", 200)
        assert before <= after
        assert len(after) == expected
        before = after
    assert len(world.rows(segment="A")) == 200
    world.judge_rounds()
    world.check()


@pytest.mark.parametrize("rule", [{"percent": 9.9999}, {"count": 1_000}])
def test_lowering_and_another_measure_are_refused(rule: dict[str, Any]) -> None:
    world = world_of(50)
    auto(world, "A", percent=10)
    result = world.do(type="update_segment", segment="A", auto=rule)
    assert result["error"]["code"] == "percent_shrinks"
    assert world.definitions["A"]["auto"]["percent"] == 10


def test_a_rule_in_the_making_stays_as_it_is() -> None:
    world = world_of(100, job_slice=1)
    world.create("A", auto={"percent": 50})
    result = world.do(type="update_segment", segment="A", auto={"percent": 60})
    assert result["error"]["code"] == "assigning"
    result = world.do(type="update_segment", segment="A", description="more words")
    assert result["status"] == "applied"
    world.settle()
    assert world.definitions["A"]["description"] == "more words"
    assert len(members(world, "A", 100)) == 50
    world.check()


def test_a_removal_by_hand_pins_out_and_an_addition_by_hand_is_never_touched() -> None:
    world = world_of(100)
    auto(world, "A", percent=10)
    out = min(members(world, "A", 100))
    by_hand = next(user_id(n) for n in range(100) if user_id(n) not in members(world, "A", 100))
    world.change(out, remove=["A"])
    world.change(by_hand, add=["A"])
    world.do(type="update_segment", segment="A", auto={"percent": 100})
    world.settle()
    held = members(world, "A", 100)
    assert out not in held
    assert len(held) == 99
    [row] = world.rows(user_id=by_hand, segment="A")
    assert row.cause == "command"
    document = world.shard_of(by_hand).documents[by_hand]
    assert document["segments"]["A"]["origin"] == "command"
    world.check()


def test_a_removal_by_hand_before_the_decision_beats_it_as_well() -> None:
    world = world_of(40, partitions=1)
    world.send(type="create_segment", segment="A", auto={"percent": 100})
    world.apply(0)
    assert world.change(user_id(3), remove=["A"])["status"] == "unchanged"
    world.settle()
    assert members(world, "A", 40) == {user_id(n) for n in range(40) if n != 3}
    assert world.rows(user_id=user_id(3)) == []
    world.check()


def test_a_blocked_user_keeps_it_and_a_deleted_one_loses_it_for_good() -> None:
    world = world_of(30)
    auto(world, "A", percent=100, newcomers=True)
    blocked, deleted = user_id(1), user_id(2)
    world.user("blocked", blocked, refresh=("r", 0, 5))
    world.user("deleted", deleted, refresh=("r", 0, 5))
    world.user("active", deleted, refresh=("r", 0, 6))
    world.settle()
    assert "A" in world.held(blocked)
    assert "A" not in world.held(deleted)
    causes = [row.cause for row in world.rows(user_id=deleted)]
    assert causes == ["auto", "user_deleted"]
    world.check()


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
    joined = {user for user in newcomers if "open" in world.held(user)}
    assert joined == {user for user in newcomers if place("open", 1, user) <= last}
    assert 20 <= len(joined) <= 60
    assert not any("closed" in world.held(user) for user in newcomers)
    world.later(1_000)
    world.change(user_id(7), add=["in"])
    assert "filtered" in world.held(user_id(7))
    [row] = world.rows(user_id=user_id(7), segment="filtered")
    assert (row.cause, row.at, row.command_id) == ("auto", world.clock_ms, None)
    world.judge_newcomers()
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
    world.judge_rounds()
    world.judge_newcomers()
    late = [user_id(n) for n in range(100, 200) if "A" in world.held(user_id(n))]
    assert 30 <= len(late) <= 70
    world.check()


def test_a_time_to_live_counts_from_the_decision_and_is_not_begun_again() -> None:
    world = world_of(50)
    auto(world, "A", percent=100, ttl="PT10S", newcomers=True)
    ends = {world.held(user_id(n))["A"] for n in range(50)}
    assert ends == {world.rows(segment="A")[0].at + 10_000}
    world.later(10_000)
    world.settle()
    assert members(world, "A", 50) == set()
    world.user("blocked", user_id(3), refresh=("r", 0, 3))
    world.user("active", user_id(3), refresh=("r", 0, 4))
    world.settle()
    assert members(world, "A", 50) == set()
    assert len(world.rows(segment="A", cause="expired")) == 50
    world.check()


def test_a_record_settles_a_chosen_user_before_its_turn() -> None:
    world = world_of(100, job_slice=1)
    world.create("other")
    world.create("A", auto={"percent": 100})
    decided_at = world.clock_ms
    last = user_id(99)
    assert "A" not in world.held(last)
    world.later(500)
    world.change(last, add=["other"], remove=["A"])
    assert [(r.segment, r.operation, r.cause, r.at) for r in world.rows(user_id=last)] == [
        ("A", "add", "auto", decided_at),
        ("other", "add", "command", decided_at + 500),
        ("A", "remove", "command", decided_at + 500),
    ]
    world.settle()
    assert members(world, "A", 100) == {user_id(n) for n in range(99)}
    world.check()


def test_two_assignments_and_a_deletion_overlap() -> None:
    world = world_of(120, job_slice=2)
    world.create("old")
    for number in range(0, 120, 2):
        world.change(user_id(number), add=["old"])
    world.send(type="create_segment", segment="A", auto={"percent": 50})
    world.send(type="delete_segment", segment="old")
    world.send(type="create_segment", segment="B", auto={"percent": 25})
    world.settle()
    assert len(members(world, "A", 120)) == 60
    assert len(members(world, "B", 120)) == 30
    assert len(world.rows(segment="old", cause="segment_deleted")) == 60
    world.judge_rounds()
    world.check()


def test_a_segment_deleted_while_it_is_assigned_ends_its_round() -> None:
    world = world_of(100, job_slice=1)
    world.create("A", auto={"percent": 50})
    world.tick()
    written = len(members(world, "A", 100))
    assert 0 < written < 50
    world.delete("A")
    world.settle()
    assert members(world, "A", 100) == set()
    assert len(world.rows(segment="A", cause="segment_deleted")) == written
    world.create("A", auto={"percent": 10})
    world.settle()
    assert members(world, "A", 100) == lowest("A", [user_id(n) for n in range(100)], 10, 2)
    world.check()


def test_a_new_generation_is_given_to_those_who_still_hold_the_old_one() -> None:
    world = world_of(40, partitions=2, job_slice=1)
    auto(world, "A", percent=100)
    world.send(type="delete_segment", segment="A")
    world.send(type="create_segment", segment="A", auto={"percent": 50})
    world.settle()
    assert members(world, "A", 40) == lowest("A", [user_id(n) for n in range(40)], 20, 2)
    assert len(world.rows(segment="A", cause="segment_deleted")) == 40
    world.judge_rounds()
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
    world.judge_newcomers()
    world.check()


def test_unknown_filters_are_refused() -> None:
    world = world_of(5)
    result = world.create("A", auto={"percent": 10, "include": ["x"], "exclude": ["y"]})
    assert (result["error"]["code"], result["error"]["segments"]) == ("segment_unknown", ["x", "y"])
    assert "A" not in world.definitions


def test_who_has_too_many_segments_is_skipped_and_counted() -> None:
    world = world_of(20, segments_per_user=1)
    world.create("one")
    for number in range(5):
        world.change(user_id(number), add=["one"])
    definition = auto(world, "A", percent=100)
    assert members(world, "A", 20) == {user_id(n) for n in range(5, 20)}
    assert (definition["auto"]["assigned"], definition["auto"]["skipped"]) == (15, 5)
    world.check()


def test_an_empty_population_and_then_newcomers() -> None:
    world = AssignedWorld(2)
    definition = auto(world, "A", percent=50, newcomers=True)
    assert definition["auto"]["target"] == 0
    for number in range(200):
        world.user("active", user_id(number))
    world.run()
    assert 70 <= len(members(world, "A", 200)) <= 130
    world.judge_newcomers()
    world.check()


def test_a_preview_counts_and_changes_nothing() -> None:
    world = world_of(80)
    world.create("in", "out")
    for number in range(50):
        world.change(user_id(number), add=["in"])
    world.change(user_id(0), add=["out"])
    before = [shard.digest() for shard in world.shards]
    rule = {"percent": 10, "include": ["in"], "exclude": ["out"]}
    result = world.do(type="preview_segment", auto=rule)
    assert result["preview"] == {"eligible": 49, "target": 5}
    assert result["status"] == "unchanged"
    assert len(world.rows(cause="auto")) == 0
    refused = world.do(type="preview_segment", auto={"percent": 1, "include": ["none"]})
    assert refused["error"]["code"] == "segment_unknown"
    assert len(before) == len(world.shards)
    world.check()
