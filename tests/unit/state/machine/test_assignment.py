"""Automatic assignment: rounding, raising, opting out, limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xxhash

from segments.state.machine import population, ranks
from tests.support.machine.assignment_examples import auto, lowest, members, world_of
from tests.support.machine.world import user_id


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
    world.check_rounds()
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


def test_ties_are_broken_by_the_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """With four ranks in all, as no hash would give them."""
    intdigest, over_arrays = xxhash.xxh3_64_intdigest, ranks.ranks_of

    def coarse(data: bytes, seed: int = 0) -> int:
        rank: int = intdigest(data, seed)
        return rank & 3 << 62 if len(data) == 16 else rank

    monkeypatch.setattr(xxhash, "xxh3_64_intdigest", coarse)
    monkeypatch.setattr(
        population, "ranks_of", lambda seed, ids: over_arrays(seed, ids) & np.uint64(3 << 62)
    )
    world = world_of(100, job_slice=7)
    auto(world, "A", percent=33, newcomers=True)
    for number in range(100, 200):
        world.user("active", user_id(number))
    world.run()
    joined = len(members(world, "A", 200))
    assert 33 < joined < 100
    world.do(type="update_segment", segment="A", auto={"percent": 70, "newcomers": True})
    world.settle()
    assert members(world, "A", 200) == lowest("A", [user_id(n) for n in range(200)], 140)
    world.check_rounds()
    world.check_newcomers()
    world.check()


def test_a_count_above_the_population_assigns_everybody() -> None:
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


def test_expired_memberships_are_not_counted_as_members() -> None:
    world = world_of(40, job_slice=3)
    world.create("in")
    for number in range(40):
        ttl = {"ttl": 1} if number % 2 else {}
        world.change(user_id(number), add=[{"segment": "in", **ttl}])
    world.advance_clock(5_000)
    auto(world, "A", percent=100, include=["in"])
    assert members(world, "A", 40) == {user_id(n) for n in range(0, 40, 2)}
    world.check()


def test_raising_keeps_members_and_reaches_the_new_number_exactly() -> None:
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
    world.check_rounds()
    world.check()


@pytest.mark.parametrize("rule", [{"percent": 9.9999}, {"count": 1_000}])
def test_lowering_a_rule_or_changing_its_unit_is_rejected(rule: dict[str, Any]) -> None:
    world = world_of(50)
    auto(world, "A", percent=10)
    result = world.do(type="update_segment", segment="A", auto=rule)
    assert result["error"]["code"] == "percent_shrinks"
    assert world.definitions["A"]["auto"]["percent"] == 10


def test_a_rule_cannot_change_while_its_round_is_running() -> None:
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


def test_a_removal_opts_out_and_a_manual_membership_is_never_changed() -> None:
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


def test_a_removal_before_the_selection_opts_out_as_well() -> None:
    world = world_of(40, partitions=1)
    world.send(type="create_segment", segment="A", auto={"percent": 100})
    world.apply(0)
    assert world.change(user_id(3), remove=["A"])["status"] == "unchanged"
    world.settle()
    assert members(world, "A", 40) == {user_id(n) for n in range(40) if n != 3}
    assert world.rows(user_id=user_id(3)) == []
    world.check()


def test_a_blocked_user_stays_a_member_and_a_deleted_one_does_not() -> None:
    world = world_of(30)
    auto(world, "A", percent=100, newcomers=True)
    blocked, deleted = user_id(1), user_id(2)
    world.user("blocked", blocked, refresh=("r", 0, 5))
    world.user("deleted", deleted, refresh=("r", 0, 5))
    world.user("active", deleted, refresh=("r", 0, 6))
    world.settle()
    assert "A" in world.memberships(blocked)
    assert "A" not in world.memberships(deleted)
    causes = [row.cause for row in world.rows(user_id=deleted)]
    assert causes == ["auto", "user_deleted"]
    world.check()


def test_a_ttl_counts_from_the_selection_and_does_not_restart() -> None:
    world = world_of(50)
    auto(world, "A", percent=100, ttl="PT10S", newcomers=True)
    ends = {world.memberships(user_id(n))["A"] for n in range(50)}
    assert ends == {world.rows(segment="A")[0].at + 10_000}
    world.advance_clock(10_000)
    world.settle()
    assert members(world, "A", 50) == set()
    world.user("blocked", user_id(3), refresh=("r", 0, 3))
    world.user("active", user_id(3), refresh=("r", 0, 4))
    world.settle()
    assert members(world, "A", 50) == set()
    assert len(world.rows(segment="A", cause="expired")) == 50
    world.check()


def test_a_record_settles_a_selected_user_early() -> None:
    world = world_of(100, job_slice=1)
    world.create("other")
    world.create("A", auto={"percent": 100})
    decided_at = world.clock_ms
    last = user_id(99)
    assert "A" not in world.memberships(last)
    world.advance_clock(500)
    world.change(last, add=["other"], remove=["A"])
    assert [(r.segment, r.operation, r.cause, r.at) for r in world.rows(user_id=last)] == [
        ("A", "add", "auto", decided_at),
        ("other", "add", "command", decided_at + 500),
        ("A", "remove", "command", decided_at + 500),
    ]
    world.settle()
    assert members(world, "A", 100) == {user_id(n) for n in range(99)}
    world.check()


def test_unknown_segments_in_filters_are_rejected() -> None:
    world = world_of(5)
    result = world.create("A", auto={"percent": 10, "include": ["x"], "exclude": ["y"]})
    assert (result["error"]["code"], result["error"]["segments"]) == ("segment_unknown", ["x", "y"])
    assert "A" not in world.definitions


def test_users_at_the_segment_limit_are_skipped_and_counted() -> None:
    world = world_of(20, segments_per_user=1)
    world.create("one")
    for number in range(5):
        world.change(user_id(number), add=["one"])
    definition = auto(world, "A", percent=100)
    assert members(world, "A", 20) == {user_id(n) for n in range(5, 20)}
    assert (definition["auto"]["assigned"], definition["auto"]["skipped"]) == (15, 5)
    world.check()


def test_a_pending_assignment_that_has_expired_does_not_count() -> None:
    world = world_of(30, job_slice=1)
    world.create("short", auto={"percent": 100, "ttl": 1})
    world.advance_clock(1_000)
    auto(world, "A", percent=100, include=["short"])
    auto(world, "B", percent=100, exclude=["short"])
    assert members(world, "A", 30) == set()
    assert len(members(world, "B", 30)) == 30
    world.check_rounds()
    world.check()


def test_raising_a_rule_with_a_deleted_segment_in_its_filters_is_rejected() -> None:
    world = world_of(20)
    world.create("gone")
    rule = {"percent": 10, "exclude": ["gone"]}
    auto(world, "A", **rule)
    world.delete("gone")
    assert world.do(type="update_segment", segment="A", auto=rule)["status"] == "unchanged"
    result = world.do(type="update_segment", segment="A", auto=rule, description="words")
    assert result["status"] == "applied"
    result = world.do(type="update_segment", segment="A", auto=rule | {"percent": 20})
    assert (result["error"]["code"], result["error"]["segments"]) == ("segment_unknown", ["gone"])
    assert world.do(type="update_segment", segment="A", auto={"percent": 20})["status"] == "applied"
    world.settle()
    assert len(members(world, "A", 20)) == 4
    world.check()


def test_a_name_in_use_is_rejected_before_unknown_filters() -> None:
    world = world_of(1)
    world.create("A")
    result = world.create("A", auto={"percent": 10, "include": ["nothing"]})
    assert result["error"]["code"] == "segment_exists"
