"""Crashes and restarts: a restored shard behaves like one that never stopped."""

from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest

from segments.state.machine.digest import MemoryState, digest
from segments.state.machine.documents import USER_PREFIX, new_user
from segments.state.machine.population import Population
from tests.support.machine.checked_world import CheckedWorld
from tests.support.machine.random_commands import RandomCommands
from tests.support.machine.world import ALICE, World, user_id

TIGHT: dict[str, Any] = {
    "job_slice": 2,
    "parked_per_user": 3,
    "remembered_ids": 4,
    "segments_per_user": 3,
    "segments": 8,
}


def finish(world: CheckedWorld) -> None:
    world.advance_clock(60_000)
    world.settle()
    world.tick()
    world.compare_all()
    world.check()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_shard_restored_after_every_record(seed: int) -> None:
    world = CheckedWorld(2, **TIGHT)
    commands = RandomCommands(world, seed, users=10, segments=9)
    commands.create_all()
    for _ in range(25):
        commands.send(30)
        for shard in world.shards:
            while shard.behind:
                world.apply(shard.config.partition)
                shard.checkpoint()
                shard.crash()
        commands.deliver_some()
        world.compare_views()
    finish(world)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limits", [TIGHT, {"job_slice": 5}, {"accept_unknown_users": False}])
def test_long_histories_with_crashes_anywhere(seed: int, limits: dict[str, Any]) -> None:
    world = CheckedWorld(3, **limits)
    commands = RandomCommands(world, seed, users=30, segments=10)
    random = Random(seed)
    if seed % 2:
        commands.create_all()
    for _ in range(60):
        commands.send(random.randrange(60))
        commands.deliver_some()
        world.compare_views()
        shard = random.choice(world.shards)
        shard.crash() if random.random() < 0.5 else shard.checkpoint()
    finish(world)


def test_a_crash_after_any_record() -> None:
    """Back to each earlier checkpoint from the end: always the same state and the same outputs."""
    world = World(1, **TIGHT)
    commands = RandomCommands(world, 5, users=6, segments=6)
    commands.create_all()
    commands.send(150)
    shard = world.shards[0]
    checkpoints = []
    while shard.behind or any(world.in_flight.values()):
        if shard.behind:
            world.apply(0)
            shard.checkpoint()
            checkpoints.append(shard._checkpoint)
        else:
            world.deliver(0, 0)
            world.append_tick(0)
    assert len(checkpoints) > 150
    for checkpoint in checkpoints:
        shard._checkpoint = checkpoint
        shard.crash()


def test_ready_users_are_the_same_after_a_restart() -> None:
    world = World(job_slice=1)
    for number in range(3):
        user = user_id(number)
        world.send(type="change_memberships", user_id=user, add=["a"])
        world.send(type="change_memberships", user_id=user_id(number + 3), add=["a", "b"])
    world.run()
    world.create("a")
    living = world.shards[0].machine.population
    known_segments = world.shards[0].machine.segments.known_segments
    users = world.shards[0].state.scan(USER_PREFIX)
    restored = Population.rebuild(
        ((key[1:].decode(), user) for key, user in users), known_segments, {}
    )
    assert list(restored.ready) == list(living.ready)
    assert len(living.ready) == 2
    assert restored._waiting == living._waiting
    assert list(living._waiting) == ["b"]


def test_ordinals_do_not_depend_on_the_order_documents_are_read_in() -> None:
    users = [(user_id(ordinal), new_user(ordinal)) for ordinal in range(100)]
    Random(3).shuffle(users)
    population = Population.rebuild(users, [], {})
    assert [population.user_id(ordinal) for ordinal in range(100)] == [
        user_id(ordinal) for ordinal in range(100)
    ]


def test_a_restored_shard_continues_its_ordinals() -> None:
    world = World()
    world.create("a")
    world.change(user=user_id(7), add=["a"])
    world.change(user=user_id(3), add=["a"])
    world.shards[0].checkpoint()
    world.shards[0].crash()
    world.change(user=user_id(5), add=["a"])
    states = [world.state(user_id(number)) for number in (7, 3, 5)]
    assert [state["ordinal"] for state in states if state] == [0, 1, 2]
    world.delete("a")
    world.settle()
    order = [row.user_id for row in world.rows(operation="remove")]
    assert order == [user_id(7), user_id(3), user_id(5)]
    world.check()


# --- the digest ---


def documents(world: World) -> dict[bytes, Any]:
    return {key: orjson.loads(value) for key, value in world.shards[0].state.dump().items()}


def test_a_digest_is_the_same_for_the_same_documents_in_any_order() -> None:
    world = World()
    world.create("a", "b")
    world.change(add=["a", "b"])
    state = MemoryState()
    for key, document in reversed(list(documents(world).items())):
        state.put(key, dict(reversed(list(document.items()))))
    assert digest(state.scan(b"")) == world.shards[0].digest()


def test_a_digest_sees_every_change_of_any_document() -> None:
    world = World()
    world.create("a")
    world.change(add=["a"])
    before = documents(world)
    seen = {world.shards[0].digest()}
    for key in before:
        for field in before[key]:
            changed = dict(before) | {key: {**before[key], field: "different"}}
            seen.add(digest(sorted(changed.items())))
        without = {other: document for other, document in before.items() if other != key}
        seen.add(digest(sorted(without.items())))
    assert len(seen) == 1 + sum(len(document) + 1 for document in before.values())


def test_a_digest_keeps_keys_and_values_apart() -> None:
    assert digest([(b"ab", 1), (b"c", 2)]) != digest([(b"a", 1), (b"bc", 2)])
    assert digest([]) != digest([(b"", None)])


def test_a_scan_gives_the_keys_with_a_prefix_in_order() -> None:
    state = MemoryState()
    for key in (b"ub", b"a", b"ua", b"v", b"u"):
        state.put(key, {})
    state.delete(b"ub")
    state.delete(b"never there")
    assert [key for key, _ in state.scan(b"u")] == [b"u", b"ua"]
    assert state.get(b"ub") is None
    state.publish(ALICE)
    assert [key for key, _ in state.scan(b"")] == [b"a", b"u", b"ua", b"v"]
