"""Outputs of the state machine match the published schemas; event ids are unique and the same after
a replay."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import orjson
import pytest

from segments.contracts.cloudevents.outgoing import event_headers
from tests.support import published_schemas
from tests.support.machine.assignment_examples import auto, world_of
from tests.support.machine.hosted_shard import HostedShard, Produced
from tests.support.machine.random_commands import RandomCommands
from tests.support.machine.world import World, user_id

EVENTS = ("segments.results", "segments.history")


def outputs_of(world: World) -> Iterator[tuple[str, Produced]]:
    """(event id, output) of all outputs of the shards."""
    for shard in world.shards:
        for offset, outputs in enumerate(shard.outputs):
            for number, output in enumerate(outputs):
                yield f"{shard.config.partition}:{offset}:{number}", output


def message_counts(world: World) -> Counter[tuple[str, str]]:
    """Number of outputs by message type; each must match exactly one."""
    counts: Counter[tuple[str, str]] = Counter()
    for event_id, (topic, key, value, _, log_type, _) in outputs_of(world):
        headers = {} if log_type is None else {"type": log_type.encode()}
        if topic in EVENTS:
            headers = dict(event_headers(topic, orjson.loads(value), "/log/id", event_id))
        found = published_schemas.matching_types(topic, value, headers, key.encode())
        assert len(found) == 1, (
            topic,
            published_schemas.validation_errors(topic, orjson.loads(value)),
        )
        counts[topic, found[0]] += 1
    return counts


@pytest.mark.parametrize("seed", [1, 2])
def test_membership_records_match_the_schemas(seed: int) -> None:
    world = World(3, job_slice=5, segments_per_user=4, parked_per_user=3)
    commands = RandomCommands(world, seed, users=15, segments=8)
    commands.create_all()
    for _ in range(10):
        commands.send(30)
        commands.deliver_some()
    world.advance_clock(60_000)
    world.settle()
    assert message_counts(world).keys() == {
        ("segments.shards", "define"),
        ("segments.definitions", "definition"),
        ("segments.results", "result"),
        ("segments.history", "row"),
        ("users.refreshes", "refresh"),
    }
    names = [event_id for event_id, output in outputs_of(world) if output.topic in EVENTS]
    assert len(set(names)) == len(names) > 300
    for shard in world.shards:
        replayed = HostedShard(shard.config, shard.log)
        while replayed.applied < shard.applied:
            replayed.apply_next()
        assert replayed.outputs == shard.outputs


def test_assignment_and_preview_records_match_the_schemas() -> None:
    world = world_of(40)
    auto(world, "half", percent=50)
    auto(world, "some", count=5, include=["half"], newcomers=True, ttl="P1D")
    auto(world, "nobody", percent=0.0001)
    rule = {"percent": 75}
    world.send(type="update_segment", id="more", segment="half", auto=rule)
    world.settle()
    world.send(type="preview_segment", id="look", auto=rule | {"exclude": ["some"]})
    world.settle()
    world.user("active", user_id(100))
    world.settle()
    found = message_counts(world)
    log = {name for topic, name in found if topic == "segments.shards"}
    messages = {"survey", "surveyed", "refine", "refined", "select", "selected"}
    assert log == messages | {"define"}
    assert found["segments.results", "preview_result"] == 1
    assert found["segments.definitions", "definition"] >= 8
