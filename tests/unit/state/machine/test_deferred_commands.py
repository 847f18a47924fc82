"""Deferred commands: a command waits until the segments it names are known."""

from __future__ import annotations

from typing import Any

import pytest

from segments.contracts.partitioning import partition_of
from tests.support.machine.world import ALICE, START_MS, World, user_id

PARK_MS = 5_000


def send(world: World, command_id: str, user: str = ALICE, **fields: Any) -> None:
    world.send(type="change_memberships", user_id=user, id=command_id, **fields)


def statuses(world: World, *command_ids: str) -> list[str | None]:
    """`applied`, `unchanged`, the code of a rejection, or None while there is no result."""
    outcomes = {r["command_id"]: (r["error"] or {}).get("code", r["status"]) for r in world.results}
    return [outcomes.get(command_id) for command_id in command_ids]


@pytest.fixture
def world() -> World:
    world = World()
    world.create("a", "b")
    return world


def test_create_then_add_without_waiting() -> None:
    world = World(partitions=3)
    for number in range(30):
        world.send(type="create_segment", segment=f"s{number}")
        send(world, f"x{number}", user_id(number), add=[f"s{number}"])
    world.run()
    assert set(statuses(world, *(f"x{n}" for n in range(30)))) == {"applied"}
    assert all(world.memberships(user_id(n)) == {f"s{n}": None} for n in range(30))
    world.check()


def test_a_command_waits_until_its_segment_is_known(world: World) -> None:
    send(world, "x", add=["new"])
    world.run()
    assert statuses(world, "x") == [None]
    population = world.shards[0].machine.population
    assert population.deferred_users == 1
    world.advance_clock(3_000)
    world.create("new")
    assert statuses(world, "x") == ["applied"]
    assert population.deferred_users == 0
    [row] = world.rows(command_id="x")
    assert row.at == START_MS + 3_000


def test_a_ttl_counts_from_the_command_not_from_its_execution(world: World) -> None:
    send(world, "x", add=[{"segment": "new", "ttl": 4}])
    world.run()
    world.advance_clock(3_000)
    world.create("new")
    assert world.memberships() == {"new": START_MS + 4_000}


def test_a_ttl_can_expire_before_the_segment_is_known(world: World) -> None:
    send(world, "x", add=[{"segment": "new", "ttl": 3}])
    send(world, "y", add=[{"segment": "new", "ttl": 3.001}])
    world.run()
    world.advance_clock(3_000)
    world.create("new")
    assert statuses(world, "x", "y") == ["already_expired", "applied"]


def test_later_commands_of_the_user_queue_up_and_other_users_do_not(world: World) -> None:
    send(world, "1", add=["new", "a"])
    send(world, "2", add=["b"], remove=["a"])
    send(world, "3", remove=["b"])
    send(world, "other", user_id(1), add=["a"])
    world.run()
    assert statuses(world, "1", "2", "3", "other") == [None, None, None, "applied"]
    world.create("new")
    assert [r["command_id"] for r in world.results[-3:]] == ["1", "2", "3"]
    assert statuses(world, "1", "2", "3") == ["applied"] * 3
    assert world.memberships() == {"new": None}


def test_a_deferred_command_is_rejected_after_five_seconds_of_log_time(world: World) -> None:
    send(world, "x", add=["new", "newer", "a"])
    world.advance_clock(PARK_MS - 1)
    world.tick()
    assert statuses(world, "x") == [None]
    assert list(world.due()) == [START_MS + PARK_MS]
    world.advance_clock(1)
    world.tick()
    result = world.result("x")
    assert (result["status"], result["error"]["segments"]) == ("rejected", ["new", "newer"])
    assert world.memberships() == {}
    assert list(world.due()) == [None]


def test_expiries_and_deadlines_do_not_hide_each_other(world: World) -> None:
    world.change(add=[{"segment": "a", "ttl": 3_600}, {"segment": "b", "ttl": 1}])
    send(world, "x", add=["new"])
    world.advance_clock(2_000)
    world.tick()
    assert list(world.memberships()) == ["a"]
    assert list(world.due()) == [START_MS + PARK_MS]
    world.advance_clock(3_000)
    world.tick()
    assert statuses(world, "x") == ["segment_unknown"]
    assert list(world.due()) == [START_MS + 3_600_000]


def test_each_deferred_command_has_its_own_deadline(world: World) -> None:
    send(world, "1", add=["new"])
    send(world, "2", add=["a"])
    world.advance_clock(2_000)
    send(world, "3", add=["newer"])
    send(world, "4", add=["b"])
    world.advance_clock(PARK_MS - 2_000)
    world.tick()
    assert statuses(world, "1", "2", "3", "4") == ["segment_unknown", "applied", None, None]
    world.advance_clock(2_000)
    world.tick()
    assert statuses(world, "3", "4") == ["segment_unknown", "applied"]
    assert world.rows(command_id="4")[0].at == START_MS + PARK_MS + 2_000


def test_the_next_command_of_the_user_applies_the_deadline(world: World) -> None:
    send(world, "1", add=["new"])
    world.advance_clock(PARK_MS)
    send(world, "2", add=["a"])
    world.run()
    assert statuses(world, "1", "2") == ["segment_unknown", "applied"]


def test_a_definition_at_the_deadline_is_in_time(world: World) -> None:
    send(world, "x", add=["new"])
    world.run()
    world.advance_clock(PARK_MS)
    world.create("new")
    assert statuses(world, "x") == ["applied"]


def test_a_command_waits_for_all_its_segments(world: World) -> None:
    send(world, "x", add=["new", "newer"])
    world.create("new")
    assert statuses(world, "x") == [None]
    assert list(world.due()) == [START_MS + PARK_MS]
    world.create("newer")
    assert statuses(world, "x") == ["applied"]


def test_a_command_does_not_wait_for_a_deleted_segment(world: World) -> None:
    world.delete("a")
    send(world, "x", add=["a"])
    world.run()
    assert statuses(world, "x") == ["segment_unknown"]


def test_a_segment_created_and_deleted_while_a_command_waits(world: World) -> None:
    send(world, "x", add=["new", "newer"])
    world.create("new")
    world.delete("new")
    world.create("newer")
    assert world.result("x")["error"]["segments"] == ["new"]
    assert world.memberships() == {}


@pytest.mark.parametrize("room", [1, 2, 64])
def test_a_full_queue_executes_its_oldest_command(room: int) -> None:
    world = World(parked_per_user=room)
    world.create("a")
    ids = [f"x{n}" for n in range(room + 3)]
    for command_id in ids[:room]:
        send(world, command_id, add=["new"])
    for command_id in ids[room:]:
        send(world, command_id, add=["newer"])
    world.run()
    refused = ["segment_unknown"] * 3
    assert statuses(world, *ids) == [*refused, *[None] * room]
    state = world.state()
    assert state is not None
    assert [parked["change"]["id"] for parked in state["parked"]] == ids[3:]


def test_commands_behind_the_oldest_resume_when_a_full_queue_executes_it() -> None:
    world = World(parked_per_user=3)
    world.create("a", "b")
    send(world, "1", add=["new"])
    send(world, "2", add=["a"])
    send(world, "3", add=["b"])
    world.run()
    assert statuses(world, "1", "2", "3") == [None] * 3
    send(world, "4", remove=["a"])
    world.run()
    assert statuses(world, "1", "2", "3", "4") == ["segment_unknown", *["applied"] * 3]
    assert world.memberships() == {"b": None}
    assert list(world.due()) == [None]


def test_a_repeated_command_in_a_full_queue_gets_a_result_and_no_effect() -> None:
    world = World(parked_per_user=1)
    send(world, "1", add=["new"])
    send(world, "1", add=["new"])
    world.run()
    assert [r["error"]["code"] for r in world.results_of("1")] == ["segment_unknown"] * 2
    world.create("new")
    assert (world.memberships(), world.history) == ({}, [])


def test_commands_of_a_deleted_user_are_not_deferred(world: World) -> None:
    world.change(add=["a"])
    send(world, "1", add=["new"])
    send(world, "2", add=["b"])
    world.user("deleted")
    world.run()
    assert statuses(world, "1", "2") == ["user_deleted"] * 2
    assert world.memberships() == {}
    assert list(world.due()) == [None]
    world.create("new")
    assert world.memberships() == {}


def test_deferred_commands_resume_in_slices() -> None:
    world = World(job_slice=2)
    for number in range(5):
        send(world, f"x{number}", user_id(number), add=["new"])
    world.run()
    world.create("new")
    served = [s for s in statuses(world, *(f"x{n}" for n in range(5))) if s]
    assert served == ["applied"] * 2
    assert list(world.due()) == [0]
    world.tick()
    assert statuses(world, *(f"x{n}" for n in range(5))) == [*["applied"] * 4, None]
    world.shards[0].checkpoint()
    world.shards[0].crash()
    world.tick()
    assert statuses(world, "x4") == ["applied"]
    assert list(world.due()) == [None]


def test_a_ready_user_is_resumed_early_by_its_next_command() -> None:
    world = World(job_slice=1)
    for number in range(3):
        send(world, f"x{number}", user_id(number), add=["new"])
    world.run()
    world.create("new")
    send(world, "y", user_id(2), remove=["new"])
    world.run()
    assert statuses(world, "x1", "x2", "y") == [None, "applied", "applied"]
    world.settle()
    assert statuses(world, "x1") == ["applied"]
    world.check()


def test_users_of_all_shards_wait_for_one_home_shard() -> None:
    world = World(partitions=4)
    users = [user_id(number) for number in range(20)]
    assert {partition_of(user, 4) for user in users} == set(range(4))
    for user in users:
        send(world, user, user, add=["new"])
    world.run()
    assert world.results == []
    world.create("new")
    assert statuses(world, *users) == ["applied"] * 20
