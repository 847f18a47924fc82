"""Deletion of segments: effective at once for readers, written in slices."""

from __future__ import annotations

from collections import Counter

from segments.contracts.log import CHANGE, encode
from segments.contracts.partitioning import partition_of
from tests.support.machine.hosted_shard import HostedShard
from tests.support.machine.world import ALICE, START_MS, World, user_id


def fill(world: World, segment: str, count: int, ttl_ms: int | None = None) -> None:
    """So many members, straight into the logs: quicker than through commands."""
    for number in range(count):
        user = user_id(number)
        value = {
            "id": f"{segment}{number}",
            "user_id": user,
            "add": [[segment, ttl_ms, None]],
            "remove": [],
        }
        world.append(partition_of(user, world.partitions), CHANGE, encode(value))
    world.run()


def removed(world: World) -> list[tuple[str, int, str]]:
    return [(r.segment, r.at - START_MS, r.cause) for r in world.rows(operation="remove")]


def test_a_segment_of_30_000_members_is_deleted_with_a_row_for_each() -> None:
    world = World(partitions=2)
    world.create("big")
    fill(world, "big", 30_000)
    world.advance_clock(250)
    result = world.delete("big", id="gone", actor="me")
    assert result["status"] == "applied"
    assert world.rows(operation="remove") == []
    assert [shard.machine.jobs for shard in world.shards] == [1, 1]
    world.advance_clock(60_000)
    assert {shard.machine.oldest_job_at for shard in world.shards} == {START_MS + 250}
    ticks = _ticks_until_done(world)
    assert [shard.machine.jobs for shard in world.shards] == [0, 0]
    assert {shard.machine.oldest_job_at for shard in world.shards} == {None}
    rows = world.rows(operation="remove")
    assert Counter(r.user_id for r in rows) == {user_id(n): 1 for n in range(30_000)}
    assert {r[3:8] for r in rows} == {
        ("remove", START_MS + 250, "segment_deleted", "gone", "me"),
    }
    for shard in world.shards:
        members = shard.machine.shard["next_ordinal"]
        assert ticks[shard.config.partition] == -(-members // 1_000)
        assert not any(document["segments"] for document in shard.documents.values())


def _ticks_until_done(world: World) -> list[int]:
    """Ticks that each shard wanted; none wrote more rows than a slice."""
    ticks = [0] * world.partitions
    while any(due == 0 for due in world.due()):
        for partition, due in enumerate(world.due()):
            if due == 0:
                before = len(world.history)
                world.append_tick(partition)
                world.run()
                ticks[partition] += 1
                assert len(world.history) - before <= 1_000
    return ticks


def test_a_slice_is_bounded_and_commands_flow_between_slices() -> None:
    world = World(job_slice=10)
    world.create("big", "other")
    fill(world, "big", 25)
    world.delete("big")
    for expected in (10, 20, 25):
        world.tick()
        assert len(world.rows(operation="remove")) == expected
        assert world.change(user=user_id(100 + expected), add=["other"])["status"] == "applied"
    assert world.shards[0].machine.jobs == 0
    assert list(world.due()) == [None]
    order = [r.user_id for r in world.rows(operation="remove")]
    assert order == [user_id(number) for number in range(25)]


def test_a_command_during_a_deletion_settles_its_user_first() -> None:
    world = World(job_slice=1)
    world.create("big", "other")
    fill(world, "big", 5)
    world.advance_clock(100)
    world.delete("big", id="gone")
    world.advance_clock(100)
    assert world.change(user=user_id(3), add=["other"], id="x")["status"] == "applied"
    rows = [(r.segment, r.operation, r.at - START_MS) for r in world.rows(user_id=user_id(3))]
    assert rows == [("big", "add", 0), ("big", "remove", 100), ("other", "add", 200)]
    world.user("deleted", user_id(4))
    world.run()
    assert [r.cause for r in world.rows(user_id=user_id(4))] == ["command", "segment_deleted"]
    world.settle()
    assert removed(world) == [("big", 100, "segment_deleted")] * 5
    world.check()


def test_only_an_expiry_before_the_deletion_counts() -> None:
    world = World()
    world.create("big")
    for number, ttl_ms in enumerate([50, 100, 101, 5_000]):
        add = [{"segment": "big", "ttl": ttl_ms / 1000}]
        world.change(user=user_id(number), add=add)
    world.advance_clock(100)
    world.delete("big")
    world.advance_clock(60_000)
    world.settle()
    assert {(r.user_id, r.at - START_MS, r.cause) for r in world.rows(operation="remove")} == {
        (user_id(0), 50, "expired"),
        (user_id(1), 100, "expired"),
        (user_id(2), 100, "segment_deleted"),
        (user_id(3), 100, "segment_deleted"),
    }
    assert list(world.due()) == [None]


def test_expiries_and_deletions_of_a_user_are_written_in_time_order() -> None:
    world = World(job_slice=1)
    world.create("a", "b", "c", "z")
    world.change(add=[{"segment": "a", "ttl": 0.3}, "b", {"segment": "c", "ttl": 0.1}, "z"])
    world.advance_clock(200)
    world.delete("z")
    world.advance_clock(200)
    world.delete("b")
    world.advance_clock(200)
    world.change(remove=["a"])
    assert removed(world) == [
        ("c", 100, "expired"),
        ("z", 200, "segment_deleted"),
        ("a", 300, "expired"),
        ("b", 400, "segment_deleted"),
    ]


def test_several_deletions_run_one_after_another() -> None:
    world = World(job_slice=3)
    world.create("b", "a", "c")
    for segment in ("a", "b", "c"):
        fill(world, segment, 4)
    for segment in ("b", "a"):
        world.delete(segment)
    world.advance_clock(5)
    world.delete("c")
    assert world.shards[0].machine.jobs == 3
    world.tick()
    world.settle()
    # Who is settled for one deletion is settled for all of them, each at its own instant.
    assert sorted(removed(world)) == [
        *[("a", 0, "segment_deleted")] * 4,
        *[("b", 0, "segment_deleted")] * 4,
        *[("c", 5, "segment_deleted")] * 4,
    ]
    assert world.shards[0].machine.jobs == 0
    world.check()


def test_thousands_of_deletions_at_once() -> None:
    world = World(segments=5_000)
    names = [f"s{number}" for number in range(2_000)]
    for name in names:
        world.send(type="create_segment", segment=name)
    world.run()
    for number, name in enumerate(names):
        world.send(type="change_memberships", user_id=user_id(number), add=[name])
    world.run()
    for name in reversed(names):
        world.send(type="delete_segment", segment=name)
    world.run()
    assert world.shards[0].machine.jobs == 2_000
    world.settle()
    assert len(world.rows(operation="remove")) == 2_000
    assert world.shards[0].machine.jobs == 0


def test_a_segment_without_members_needs_no_job() -> None:
    world = World()
    world.create("a", "b")
    world.change(add=["a"])
    world.change(remove=["a"])
    world.delete("a")
    world.delete("b")
    assert world.shards[0].machine.jobs == 0
    assert list(world.due()) == [None]


def test_a_job_whose_members_are_all_settled_ends_at_the_next_tick() -> None:
    world = World()
    world.create("a", "b")
    world.change(add=["a"])
    world.delete("a")
    world.change(add=["b"])
    assert list(world.due()) == [0]
    rows = len(world.history)
    world.tick()
    assert (len(world.history), list(world.due())) == (rows, [None])


def test_a_job_resumes_after_a_crash() -> None:
    world = World(job_slice=4)
    world.create("big")
    fill(world, "big", 10)
    world.delete("big")
    shard: HostedShard = world.shards[0]
    for _ in range(3):
        shard.crash()
        shard.checkpoint()
        world.tick()
    assert len(world.rows(operation="remove")) == 10
    assert shard.machine.jobs == 0
    world.check()


def test_the_last_member_of_a_deleted_segment_can_be_added_elsewhere_in_the_same_command() -> None:
    world = World(segments_per_user=1)
    world.create("a", "b")
    world.change(add=["a"])
    world.delete("a")
    assert world.change(add=["b"])["status"] == "applied"
    assert world.memberships(ALICE) == {"b": None}


def test_a_tick_has_one_budget_for_all_work() -> None:
    world = World(job_slice=4)
    world.create("a", "b")
    for number in range(3):
        world.change(user=user_id(number), add=[{"segment": "a", "ttl": 0.1}])
        world.change(user=user_id(10 + number), add=["b"])
    for number in range(6):
        user = user_id(20 + number)
        world.send(type="change_memberships", user_id=user, add=["new"], id=f"x{number}")
    world.run()
    world.delete("b")
    world.advance_clock(100)
    world.create("new")
    causes = Counter(row.cause for row in world.history[6:])
    assert causes == {"command": 4}
    done = []
    while any(due == 0 for due in world.due()):
        before = len(world.history)
        world.tick()
        done.append(Counter(row.cause for row in world.history[before:]))
    assert done == [
        {"expired": 3, "command": 1},
        {"command": 1, "segment_deleted": 3},
    ]
