"""Previews: the exact number of users a rule admits."""

from __future__ import annotations

from tests.support.machine.assignment_examples import world_of
from tests.support.machine.world import user_id


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


def test_expired_memberships_are_not_counted_even_beyond_one_slice() -> None:
    world = world_of(40, job_slice=3)
    world.create("in")
    for number in range(40):
        world.change(user_id(number), add=[{"segment": "in", "ttl": 1 if number % 2 else 60}])
    world.advance_clock(2_000)
    command = world.send(type="preview_segment", auto={"percent": 10, "include": ["in"]})
    world.run()
    assert world.results_of(command) == [], "there is still something to end"
    for shard in world.shards:
        shard.checkpoint()
        shard.crash()
    world.settle()
    [result] = world.results_of(command)
    assert result["preview"] == {"eligible": 20, "target": 2}
    world.check()


def test_pending_assignments_count_as_memberships() -> None:
    world = world_of(30, job_slice=1)
    world.create("A", auto={"percent": 50})
    world.create("short", auto={"percent": 100, "ttl": 1})

    def eligible(**filters: list[str]) -> int:
        result = world.do(type="preview_segment", auto={"percent": 100, **filters})
        return int(result["preview"]["eligible"])

    assert (eligible(include=["A"]), eligible(exclude=["A"])) == (15, 15)
    assert (eligible(include=["short"]), eligible(exclude=["short"])) == (30, 0)
    world.advance_clock(1_000)
    assert (eligible(include=["short"]), eligible(exclude=["short"])) == (0, 30)
    assert all(shard.machine.jobs == 2 for shard in world.shards), "nothing is written yet"
    world.settle()
    assert (eligible(include=["A"]), eligible(include=["short"])) == (15, 0)
    world.check()


def test_a_preview_sent_twice_is_counted_once() -> None:
    world = world_of(30)
    homes = {"first": {"percent": 10}, "second": {"percent": 50}}
    for rule in homes.values():
        world.send(type="preview_segment", id="p", auto=rule)
    home = world.shard_of("p")
    while home.behind:
        world.apply(home.config.partition)
    world.run()
    results = world.results_of("p")
    assert [result["preview"] for result in results] == [{"eligible": 30, "target": 3}]
    again = world.do(type="preview_segment", id="p", auto={"percent": 50})
    assert again["preview"] == {"eligible": 30, "target": 15}
    assert all(not list(shard.state.scan(b"p")) for shard in world.shards)
    world.check()


def test_previews_leave_no_state_behind() -> None:
    world = world_of(12, job_slice=2)
    world.create("in")
    for number in range(12):
        world.change(user_id(number), add=[{"segment": "in", "ttl": 1}])
    before = [dict(shard.state.dump()) for shard in world.shards]
    world.advance_clock(3_000)
    for _ in range(5):
        world.send(type="preview_segment", auto={"count": 1, "exclude": ["in"]})
    world.settle()
    assert [result["preview"]["eligible"] for result in world.results[-5:]] == [12] * 5
    assert [set(shard.state.dump()) for shard in world.shards] == [set(keys) for keys in before]
    world.check()
