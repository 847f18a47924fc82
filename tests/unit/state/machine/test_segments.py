"""Creation, update and deletion of segments, and their generations."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from segments.contracts.log import DEFINE
from segments.contracts.partitioning import partition_of
from tests.support.machine.hosted_shard import Produced
from tests.support.machine.world import ALICE, START_MS, World, user_id


def code(result: dict[str, Any]) -> str:
    assert result["status"] == "rejected"
    return str(result["error"]["code"])


def test_a_created_segment_has_a_definition_and_a_result() -> None:
    world = World()
    world.advance_clock(5)
    result = world.create("a", id="x", description="first")
    assert (result["status"], result["changes"], result["position"]) == ("applied", [], "0:0")
    assert world.definitions["a"] == {
        "segment": "a",
        "generation": 1,
        "version": 1,
        "state": "active",
        "description": "first",
        "created_at": START_MS + 5,
        "auto": None,
        "position": "0:0",
    }


def test_the_definition_is_broadcast_together_with_the_result() -> None:
    world = World(partitions=3)
    home = partition_of("a", 3)
    world.send(type="create_segment", segment="a", id="x", actor="me")
    outputs = world.apply(home)
    assert [(o.topic, o.partition) for o in outputs] == [
        ("segments.results", None),
        ("segments.definitions", None),
        *[("segments.shards", partition) for partition in range(3)],
    ]
    told = [orjson.loads(o.value) for o in outputs if o.topic == "segments.shards"]
    public = orjson.loads(outputs[1].value)
    assert told == [public | {"command_id": "x", "actor": "me"}] * 3


def test_creating_an_existing_segment_is_rejected() -> None:
    world = World()
    world.create("a", description="first")
    world.change(add=["a"])
    before = dict(world.definitions["a"])
    world.advance_clock(5)
    result = world.create("a", description="second")
    assert (code(result), result["error"]["segments"]) == ("segment_exists", ["a"])
    assert world.definitions["a"] == before
    assert world.memberships() == {"a": None}


def test_of_two_producers_exactly_one_wins() -> None:
    world = World(partitions=2)
    for number in range(10):
        world.send(0, type="create_segment", segment=f"s{number}", id=f"one{number}")
        world.send(1, type="create_segment", segment=f"s{number}", id=f"two{number}")
    world.run()
    assert all(world.result(f"one{n}")["status"] == "applied" for n in range(10))
    assert all(code(world.result(f"two{n}")) == "segment_exists" for n in range(10))


def test_names_differ_by_case() -> None:
    world = World()
    world.create("vip", "VIP")
    world.change(add=["VIP"])
    assert world.memberships() == {"VIP": None}


def test_an_update_changes_only_the_description() -> None:
    world = World()
    world.create("a", description="first")
    world.change(add=["a"])
    update = {"type": "update_segment", "segment": "a"}
    assert world.do(**update, description="second")["status"] == "applied"
    assert world.do(**update, description="second")["status"] == "unchanged"
    assert world.do(**update)["status"] == "unchanged"
    assert world.definitions["a"]["description"] == "second"
    assert (world.definitions["a"]["version"], world.definitions["a"]["generation"]) == (2, 1)
    assert world.do(**update, description=None)["status"] == "applied"
    assert world.definitions["a"]["description"] is None
    assert world.memberships() == {"a": None}
    assert world.change(add=["a"])["status"] == "unchanged"


@pytest.mark.parametrize("kind", ["update_segment", "delete_segment"])
def test_updating_or_deleting_an_unknown_segment_is_rejected(kind: str) -> None:
    world = World()
    fields = {"type": kind, "segment": "a"}
    assert code(world.do(**fields)) == "segment_unknown"
    assert world.definitions == {}
    world.create("a")
    world.delete("a")
    result = world.do(**fields)
    assert (code(result), result["error"]["segments"]) == ("segment_unknown", ["a"])
    assert world.definitions["a"]["version"] == 2


def test_a_rejected_name_can_be_created_later() -> None:
    world = World()
    world.delete("a")
    world.create("a")
    assert (world.definitions["a"]["generation"], world.definitions["a"]["version"]) == (1, 1)


def test_a_deleted_segment_cannot_be_used() -> None:
    world = World()
    world.create("a")
    world.change(add=["a"])
    world.delete("a")
    world.settle()
    assert world.definitions["a"]["state"] == "deleted"
    assert world.memberships() == {}
    assert code(world.change(add=["a"])) == "segment_unknown"
    assert code(world.change(remove=["a"])) == "segment_unknown"


def test_old_memberships_never_come_back() -> None:
    world = World(partitions=2)
    world.create("a")
    for number in range(6):
        world.change(user=user_id(number), add=["a"])
    world.delete("a")
    world.create("a")
    assert world.definitions["a"]["generation"] == 2
    world.advance_clock(100)
    late = world.change(user=user_id(0), remove=["a"])
    assert late["status"] == "unchanged"
    world.settle()
    assert all(world.memberships(user_id(number)) == {} for number in range(6))
    assert world.change(user=user_id(1), add=["a"])["status"] == "applied"
    state = world.state(user_id(1))
    assert state is not None
    assert state["segments"]["a"]["generation"] == 2
    assert state["segments"]["a"]["since"] == START_MS + 100
    rows = world.rows(user_id=user_id(1))
    assert [(r.generation, r.operation, r.at) for r in rows] == [
        (1, "add", START_MS),
        (1, "remove", START_MS),
        (2, "add", START_MS + 100),
    ]
    world.check()


def test_a_member_of_the_old_generation_joins_the_new_one_before_the_job_is_done() -> None:
    world = World(job_slice=1)
    world.create("a")
    world.change(add=["a"])
    world.advance_clock(10)
    world.delete("a", id="gone")
    world.create("a")
    world.advance_clock(10)
    assert list(world.due()) == [0]
    result = world.change(add=[{"segment": "a", "ttl": 1}], id="x")
    assert result["changes"] == [{"segment": "a", "operation": "add"}]
    assert [(r.generation, r.operation, r.at, r.cause) for r in world.rows()] == [
        (1, "add", START_MS, "command"),
        (1, "remove", START_MS + 10, "segment_deleted"),
        (2, "add", START_MS + 20, "command"),
    ]
    world.settle()
    assert world.memberships() == {"a": START_MS + 1_020}
    assert list(world.due()) == [START_MS + 1_020]


def test_three_generations_one_after_the_other_with_jobs_of_each_open() -> None:
    world = World(job_slice=1)
    for generation in range(1, 4):
        world.create("a")
        assert world.definitions["a"]["generation"] == generation
        for number in range(3):
            world.change(user=user_id(10 * generation + number), add=["a"])
        world.advance_clock(10)
        world.delete("a")
    assert world.shards[0].machine.jobs == 3
    world.settle()
    removed = world.rows(operation="remove")
    assert [r.at - START_MS for r in removed] == [10, 10, 10, 20, 20, 20, 30, 30, 30]
    assert [r.user_id for r in removed] == [
        user_id(10 * g + n) for g in (1, 2, 3) for n in range(3)
    ]
    world.check()


def test_an_older_definition_is_ignored() -> None:
    world = World()
    world.send(type="create_segment", segment="a")
    [*_, define] = world.apply(0)
    world.run()
    world.delete("a")
    assert define.topic == "segments.shards"
    world.append(0, DEFINE, define.value)
    world.run()
    assert code(world.change(add=["a"])) == "segment_unknown"


def test_the_first_known_definition_may_be_a_deletion() -> None:
    world = World()
    world.send(type="change_memberships", user_id=ALICE, add=["a"], id="x")
    world.run()
    world.append(0, DEFINE, _define("a", 2, "deleted").value)
    world.run()
    assert code(world.result("x")) == "segment_unknown"
    assert list(world.due()) == [None]


def _define(segment: str, version: int, state: str) -> Produced:
    value = {
        "segment": segment,
        "generation": 1,
        "version": version,
        "state": state,
        "command_id": "d",
        "actor": None,
    }
    return Produced("segments.shards", segment, orjson.dumps(value), 0, DEFINE, None)


def test_the_number_of_segments_is_limited() -> None:
    world = World(segments=2)
    world.create("a", "b")
    assert code(world.create("c")) == "too_many_segments"
    assert world.do(type="update_segment", segment="a", description="x")["status"] == "applied"
    world.delete("a")
    assert world.create("c")["status"] == "applied"
    assert code(world.create("a")) == "too_many_segments"
    assert code(world.create("b")) == "segment_exists"


def test_a_burst_in_one_home_shard_does_not_exceed_the_limit() -> None:
    world = World(segments=3)
    for number in range(6):
        world.send(type="create_segment", segment=f"s{number}", id=f"x{number}")
    world.send(type="delete_segment", segment="s0")
    world.send(type="create_segment", segment="last", id="x6")
    world.run()
    statuses = [world.result(f"x{number}")["status"] for number in range(7)]
    assert statuses == [*["applied"] * 3, *["rejected"] * 3, "applied"]


def test_segments_of_other_shards_count_once_known() -> None:
    world = World(partitions=3, segments=4)
    names = [f"s{number}" for number in range(12)]
    assert {partition_of(name, 3) for name in names} == {0, 1, 2}
    created = [world.create(name)["status"] for name in names]
    assert created == [*["applied"] * 4, *["rejected"] * 8]
    for shard in world.shards:
        shard.checkpoint()
        shard.crash()
    assert code(world.create("more")) == "too_many_segments"
    world.delete(names[0])
    assert world.create("more")["status"] == "applied"


def test_an_unknown_record_type_stops_the_shard() -> None:
    world = World()
    world.create("a")
    world.append(0, "changes", b"{}")
    with pytest.raises(ValueError, match=r"unknown type of log record: 'changes' at offset 2"):
        world.apply(0)
