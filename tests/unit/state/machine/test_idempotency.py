"""Repeated command ids and redelivered records."""

from __future__ import annotations

import pytest

from segments.contracts.log import TICK
from segments.state.machine.shard import DROPPED
from tests.support.machine.world import ALICE, World, user_id


@pytest.fixture
def world() -> World:
    world = World()
    world.create("a", "b")
    return world


def test_a_repeated_id_gets_the_first_result_and_changes_nothing(world: World) -> None:
    first = world.change(add=["a"], id="x")
    world.advance_clock(1_000)
    assert world.change(add=["a"], id="x") == first
    assert world.change(add=["b"], remove=["a"], id="x") == first
    assert world.memberships() == {"a": None}
    assert len(world.history) == 1


def test_a_repeated_id_does_not_undo_later_commands(world: World) -> None:
    world.change(add=["a"], id="x")
    world.change(remove=["a"])
    assert world.change(add=["a"], id="x")["status"] == "applied"
    assert world.memberships() == {}
    assert len(world.history) == 2


def test_an_id_belongs_to_a_user(world: World) -> None:
    world.change(add=["a"], id="x")
    other = world.change(user=user_id(1), add=["b"], id="x")
    assert other["changes"] == [{"segment": "b", "operation": "add"}]
    assert world.memberships(user_id(1)) == {"b": None}


def test_a_rejection_is_deduplicated_as_well(world: World) -> None:
    world.delete("b")
    refused = world.change(add=["b"], id="x")
    world.create("b")
    assert world.change(add=["b"], id="x") == refused
    assert world.change(add=["b"], id="y")["status"] == "applied"


def test_a_user_remembers_the_last_64_ids(world: World) -> None:
    first = world.change(add=["a"], id="x")
    for number in range(63):
        world.change(remove=["a"] if number == 0 else ["b"])
    assert world.change(add=["a"], id="x") == first
    assert world.memberships() == {}
    world.change(remove=["b"])
    assert world.change(add=["a"], id="x") != first
    assert world.memberships() == {"a": None}


def test_a_repeated_command_does_not_use_up_a_remembered_id(world: World) -> None:
    first = world.change(add=["a"], id="x")
    for _ in range(100):
        world.change(remove=["b"], id="y")
    assert world.change(add=["a"], id="x") == first


def test_a_command_repeated_while_deferred_gets_two_results_and_one_effect(world: World) -> None:
    for _ in range(2):
        world.send(type="change_memberships", user_id=ALICE, add=["new"], id="x")
    world.run()
    assert world.results_of("x") == []
    world.create("new")
    first, second = world.results_of("x")
    assert first == second
    assert first["status"] == "applied"
    assert len(world.history) == 1


def test_a_segment_command_is_executed_once(world: World) -> None:
    first = world.create("new", id="x", description="first")
    assert world.create("new", id="x", description="second") == first
    assert world.definitions["new"]["description"] == "first"
    deleted = world.delete("new", id="y")
    assert world.create("new", id="z")["status"] == "applied"
    assert world.delete("new", id="y") == deleted
    assert world.create("new", id="x") == first
    assert (world.definitions["new"]["state"], world.definitions["new"]["version"]) == ("active", 3)


def test_a_repeated_rejected_deletion_does_not_delete_a_later_segment(world: World) -> None:
    refused = world.delete("new", id="x")
    assert refused["error"]["code"] == "segment_unknown"
    world.create("new")
    assert world.delete("new", id="x") == refused
    assert world.definitions["new"]["state"] == "active"


def test_a_repeated_rejected_creation_stays_rejected() -> None:
    world = World(segments=1)
    world.create("a")
    refused = world.create("b", id="x")
    assert refused["error"]["code"] == "too_many_segments"
    world.delete("a")
    assert world.create("b", id="x") == refused
    assert world.create("b", id="y")["status"] == "applied"


def test_an_id_belongs_to_a_segment(world: World) -> None:
    assert world.create("new", id="x")["status"] == "applied"
    assert world.create("newer", id="x")["status"] == "applied"


def test_a_segment_remembers_the_last_64_ids(world: World) -> None:
    first = world.create("new", id="x")
    for number in range(63):
        world.do(type="update_segment", segment="new", description=f"{number}")
    assert world.create("new", id="x") == first
    world.do(type="update_segment", segment="new", description="one more")
    assert world.create("new", id="x")["error"]["code"] == "segment_exists"


# --- redelivery: the same record, told by where it came from ---


def test_a_redelivered_record_has_no_outputs(world: World) -> None:
    world.change(add=["a"], id="x")
    results, rows = len(world.results), len(world.history)
    world.redeliver(source=0, count=3)
    before = world.shards[0].machine.shard["log_time"]
    world.advance_clock(1_000)
    while world.shards[0].behind:
        assert not world.apply(0)
    assert not DROPPED
    assert (len(world.results), len(world.history)) == (results, rows)
    assert world.shards[0].machine.shard["log_time"] == before
    assert world.shards[0].machine.shard["offset"] == world.shards[0].applied - 1


def test_new_records_after_redelivered_ones_are_applied(world: World) -> None:
    world.change(add=["a"], id="x")
    world.change(remove=["a"], id="y")
    world.redeliver(source=0, count=2)
    world.send(type="change_memberships", user_id=ALICE, add=["b"], id="z")
    world.redeliver(source=0, count=3)
    world.run()
    assert world.memberships() == {"b": None}
    assert [len(world.results_of(command_id)) for command_id in "xyz"] == [1, 1, 1]


def test_source_partitions_are_deduplicated_separately(world: World) -> None:
    for _ in range(5):
        world.change(add=["a"])
    command = {"type": "change_memberships", "user_id": ALICE, "add": ["b"]}
    world.send(source=1, id="x", **command)
    world.run()
    assert world.result("x")["status"] == "applied"


def test_a_recreated_topic_is_deduplicated_separately(world: World) -> None:
    world.change(add=["a"])
    value = b'{"id":"x","user_id":"%s","add":[["b",null,null]],"remove":[]}' % ALICE.encode()
    world.append(0, "change", value, ("beef:0", 0))
    world.append(0, "change", value, ("c0ffee:0", 0))
    world.run()
    assert len(world.results_of("x")) == 1
    assert world.memberships() == {"a": None, "b": None}


def test_messages_between_shards_are_never_dropped_as_duplicates(world: World) -> None:
    for _ in range(3):
        world.advance_clock(10)
        world.append(0, TICK, b"{}")
        world.run()
    assert world.shards[0].machine.shard["log_time"] == world.clock_ms
    assert list(world.shards[0].machine.shard["sources"]) == ["c0ffee:0"]
