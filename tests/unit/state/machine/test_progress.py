"""Progress markers of a shard; `HostedShard` also checks them at every record."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine.world import START_MS, World, user_id


@pytest.fixture
def world() -> World:
    world = World()
    world.create("a", "b")
    return world


def complete_at(world: World) -> int:
    return world.shards[0].machine.complete_at_ms() - START_MS


def test_the_watermark_is_below_the_log_time(world: World) -> None:
    assert complete_at(world) == -1
    world.change(add=["a"])
    assert complete_at(world) == -1
    # Appended in the same millisecond: its row has the same instant.
    world.change(add=["b"])
    assert [row.at - START_MS for row in world.history] == [0, 0]
    world.advance_clock(10)
    assert complete_at(world) == -1
    world.tick()
    assert complete_at(world) == 9


def test_an_unwritten_expiry_holds_back_the_watermark() -> None:
    world = World(job_slice=1)
    world.create("a")
    for number, ms in enumerate([100, 200, 300]):
        world.change(user=user_id(number), add=[{"segment": "a", "ttl": ms / 1000}])
    world.advance_clock(250)
    world.change(user=user_id(9), add=["a"])
    assert complete_at(world) == 99
    world.tick()
    assert complete_at(world) == 199
    world.tick()
    assert complete_at(world) == 249


def test_an_expiry_at_the_log_time_does_not_hold_back_the_watermark(world: World) -> None:
    world.change(add=[{"segment": "a", "ttl": 0.1}])
    world.advance_clock(100)
    world.change(user=user_id(1), add=["a"])
    assert complete_at(world) == 99


def test_a_running_deletion_holds_back_the_watermark() -> None:
    world = World(job_slice=1)
    world.create("a", "b")
    for number in range(2):
        world.change(user=user_id(number), add=["a", "b"])
    world.advance_clock(100)
    world.delete("a")
    world.advance_clock(100)
    world.delete("b")
    world.advance_clock(1_000)
    world.change(user=user_id(9), remove=["a"])
    assert complete_at(world) == 99
    world.tick()
    assert complete_at(world) == 99
    world.settle()
    assert complete_at(world) == 1_199


def test_a_deferred_command_does_not_hold_back_the_watermark(world: World) -> None:
    world.send(type="change_memberships", user_id=user_id(0), add=["new", "a"])
    world.advance_clock(3_000)
    world.tick()
    assert complete_at(world) == 2_999
    world.create("new")
    assert [row.at - START_MS for row in world.history] == [3_000, 3_000]


def test_the_watermark_does_not_go_back_with_the_brokers_clock(world: World) -> None:
    world.advance_clock(500)
    world.tick()
    world.advance_clock(-400)
    world.change(add=["a"])
    assert complete_at(world) == 499
    assert [row.at - START_MS for row in world.history] == [500]


def test_history_rows_are_counted_across_a_crash(world: World) -> None:
    shard = world.shards[0]
    world.change(add=["a", "b"])
    shard.checkpoint()
    world.change(remove=["a"])
    assert shard.machine.shard["history_rows"] == 3
    shard.crash()
    assert shard.machine.shard["history_rows"] == 3
    world.change(add=["a"])
    assert shard.machine.shard["history_rows"] == 4


def test_the_marker_has_the_offset_of_the_last_definition() -> None:
    world = World()
    shard = world.shards[0]
    assert shard.machine.shard["defined"] == -1
    world.create("a")
    assert shard.machine.shard["defined"] == 0
    world.create("a")
    world.change(add=["a"])
    assert shard.machine.shard["defined"] == 0
    offset = len(shard.log)
    world.delete("a")
    assert shard.machine.shard["defined"] == offset
    assert world.definitions["a"]["position"] == f"0:{offset}"


def test_definitions_are_marked_in_their_home_shard() -> None:
    world = World(partitions=4)
    for number in range(20):
        world.create(f"s{number}")
    for partition, shard in enumerate(world.shards):
        positions = [d["position"].split(":") for d in world.definitions.values()]
        here = [int(offset) for home, offset in positions if int(home) == partition]
        assert shard.machine.shard["defined"] == max(here)


def test_a_dropped_record_only_advances_the_offset(world: World) -> None:
    world.change(add=["a"])
    shard = world.shards[0]
    before: dict[str, Any] = dict(shard.machine.shard)
    world.redeliver(source=0, count=1)
    world.advance_clock(1_000)
    world.run()
    assert shard.machine.shard == before | {"offset": before["offset"] + 1}
