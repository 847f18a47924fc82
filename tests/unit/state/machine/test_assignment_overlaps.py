"""Concurrent assignments and deletions, of one segment and of several."""

from __future__ import annotations

from tests.support.machine.assignment_examples import auto, lowest, members, world_of
from tests.support.machine.world import user_id


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
    world.check_rounds()
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


def test_members_of_the_old_generation_can_be_assigned_the_new_one() -> None:
    world = world_of(40, partitions=2, job_slice=1)
    auto(world, "A", percent=100)
    world.send(type="delete_segment", segment="A")
    world.send(type="create_segment", segment="A", auto={"percent": 50})
    world.settle()
    assert members(world, "A", 40) == lowest("A", [user_id(n) for n in range(40)], 20, 2)
    assert len(world.rows(segment="A", cause="segment_deleted")) == 40
    world.check_rounds()
    world.check()


def test_a_reply_for_an_old_generation_is_ignored() -> None:
    world = world_of(40, partitions=2)
    home = world.shard_of("A").config.partition
    other = 1 - home
    world.send(type="create_segment", segment="A", auto={"percent": 100})
    world.apply(home)
    while world.in_flight[home, other]:
        world.deliver(home, other)
    while world.shards[other].behind:
        world.apply(other)
    assert [output.type for output in world.in_flight[other, home]] == ["surveyed"]
    world.send(type="delete_segment", segment="A")
    world.send(type="create_segment", segment="A", auto={"percent": 50})
    world.settle()
    assert len(members(world, "A", 40)) == 20
    world.check_rounds()
    world.check()


def test_a_large_deletion_does_not_delay_an_assignment() -> None:
    world = world_of(60, partitions=2, job_slice=1)
    world.create("old")
    for number in range(60):
        world.change(user_id(number), add=["old"])
    world.delete("old")
    world.tick()
    world.create("A", auto={"percent": 50})
    world.tick()
    assert world.definitions["A"]["auto"]["target"] == 30, "decided while the deletion goes on"
    assert all(shard.machine.segments.has_jobs for shard in world.shards)
    world.settle()
    assert len(members(world, "A", 60)) == 30
    world.check()
