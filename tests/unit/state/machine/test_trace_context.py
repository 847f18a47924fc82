"""Propagation of a command's trace context through router and state machine."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from segments.contracts.commands import COMMAND_ADAPTER
from segments.contracts.log import encode
from segments.contracts.partitioning import partition_of
from segments.kafka.clients import Record
from segments.streams.routing import RoutedRecord, Router
from tests.support.machine.hosted_shard import Produced
from tests.support.machine.world import ALICE, World

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OTHER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
TRACE = {"traceparent": PARENT, "tracestate": "congo=t61"}
HEADERS = [("traceparent", PARENT.encode()), ("tracestate", b"congo=t61")]
CHANGE: dict[str, Any] = {"type": "change_memberships", "id": "c", "user_id": ALICE, "add": ["a"]}


# --- router ---


def route(value: Any, headers: list[tuple[str, bytes]]) -> list[RoutedRecord]:
    router = Router(
        {"segments.commands": ("segments.commands", "beef")},
        log_record_bytes=900_000,
        message_max_bytes=16_777_216,
    )
    record = Record("segments.commands", 0, 7, 1_795_500_000_000, None, value, headers)
    return router.route(record)


def logged_trace(value: Any, headers: list[tuple[str, bytes]]) -> Any:
    [output] = route(orjson.dumps(value), headers)
    assert output.topic == "segments.shards"
    return orjson.loads(output.value or b"").get("trace")


def cloud_event(**attributes: Any) -> dict[str, Any]:
    envelope = {"specversion": "1.0", "id": "e", "source": "/crm", "type": "change"}
    return envelope | attributes | {"data": CHANGE}


def test_trace_headers_are_written_to_the_log() -> None:
    assert logged_trace(CHANGE, HEADERS) == TRACE
    assert logged_trace(CHANGE, []) is None


def test_the_trace_extension_of_a_cloud_event_is_written_to_the_log() -> None:
    assert logged_trace(cloud_event(**TRACE), []) == TRACE
    binary = [
        (f"ce_{name}", value.encode()) for name, value in cloud_event().items() if value != CHANGE
    ]
    binary += [(f"ce_{name}", value) for name, value in HEADERS]
    assert logged_trace(CHANGE, binary) == TRACE


def test_trace_headers_take_precedence_over_the_cloud_event() -> None:
    """The extension tells where the event began, the header who sent it here."""
    sent = [("traceparent", OTHER.encode())]
    assert logged_trace(cloud_event(**TRACE), sent) == {"traceparent": OTHER}
    assert logged_trace(cloud_event(**TRACE), [("traceparent", b"rubbish")]) == TRACE


@pytest.mark.parametrize("value", [17, None, "rubbish", "é" * 60, "x" * 5_000, {"a": 1}])
def test_a_malformed_trace_context_does_not_reject_the_command(value: Any) -> None:
    assert logged_trace(cloud_event(traceparent=value, tracestate=value), []) is None
    raw = str(value).encode()
    assert logged_trace(CHANGE, [("traceparent", raw), ("tracestate", raw)]) is None
    assert logged_trace(CHANGE, [("traceparent", b"\xff\xfe")]) is None


def test_a_rejection_has_the_trace_context() -> None:
    dead, result = route(orjson.dumps(CHANGE | {"add": 1}), HEADERS)
    assert dead.headers[:2] == HEADERS
    assert (result.topic, result.headers) == ("segments.results", HEADERS)
    assert route(b"no JSON", HEADERS)[0].headers[:2] == HEADERS


def test_the_same_record_gives_the_same_outputs() -> None:
    assert route(orjson.dumps(CHANGE), HEADERS) == route(orjson.dumps(CHANGE), HEADERS)


# --- state machine ---


def send(world: World, trace: dict[str, str] | None, **command: Any) -> None:
    kind, key, value = COMMAND_ADAPTER.validate_python(command).log_record("none", trace)
    world.append(partition_of(key, world.partitions), kind, encode(value))


def change(world: World, trace: dict[str, str] | None, **fields: Any) -> None:
    send(world, trace, **(CHANGE | fields))


def produced(world: World, topic: str) -> list[Produced]:
    """All records produced to a topic, by every shard, in order."""
    return [
        output
        for shard in world.shards
        for outputs in shard.outputs
        for output in outputs
        if output.topic == topic
    ]


def traces(world: World, topic: str) -> dict[Any, Any]:
    """Trace by (command id, operation) of history, by command id of results."""
    found: dict[Any, Any] = {}
    for output in produced(world, topic):
        value = orjson.loads(output.value)
        key = value["command_id"]
        found[(key, value["cause"]) if topic == "segments.history" else key] = output.trace
    return found


def test_result_and_rows_carry_the_trace_of_their_command() -> None:
    world = World()
    send(world, TRACE, type="create_segment", id="new", segment="a")
    change(world, TRACE, id="traced")
    change(world, None, id="not", add=[], remove=["a"])
    change(world, TRACE, id="refused", add=["unknown"])
    world.settle()
    world.advance_clock(60_000)
    world.settle()
    assert traces(world, "segments.results") == {
        "new": TRACE,
        "traced": TRACE,
        "not": None,
        "refused": TRACE,
    }
    assert traces(world, "segments.history") == {
        ("traced", "command"): TRACE,
        ("not", "command"): None,
    }
    documents = [*produced(world, "segments.definitions"), *produced(world, "segments.shards")]
    assert {output.trace for output in documents} == {None}


def test_a_repeated_command_is_answered_in_its_own_trace() -> None:
    world = World()
    world.create("a")
    change(world, TRACE)
    change(world, {"traceparent": OTHER})
    world.run()
    results = [o.trace for o in produced(world, "segments.results") if o.key == "c"]
    assert results == [TRACE, {"traceparent": OTHER}]
    assert [o.trace for o in produced(world, "segments.history")] == [TRACE]


def test_a_deferred_command_keeps_its_trace_across_a_restart() -> None:
    world = World()
    change(world, TRACE)
    world.run()
    [shard] = world.shards
    shard.checkpoint()
    shard.crash()
    assert produced(world, "segments.results") == []
    world.create("a")
    world.settle()
    assert traces(world, "segments.results")["c"] == TRACE
    assert traces(world, "segments.history") == {("c", "command"): TRACE}
    shard.crash()
    shard.check_replay()


def test_a_preview_keeps_its_trace_across_a_restart() -> None:
    world = World(2)
    send(world, TRACE, type="preview_segment", id="p", auto={"percent": 10})
    for shard in world.shards:
        while shard.behind:
            world.apply(shard.config.partition)
        shard.checkpoint()
        shard.crash()
    world.settle()
    assert traces(world, "segments.results") == {"p": TRACE}


def test_outputs_without_a_command_have_no_trace() -> None:
    """The end of a membership, and the rows of a deleted segment, belong to nobody's request."""
    world = World()
    world.create("a", "b")
    change(world, TRACE, add=[{"segment": "a", "ttl": 10}, "b"])
    world.run()
    world.advance_clock(11_000)
    world.settle()
    send(world, TRACE, type="delete_segment", id="del", segment="b")
    world.settle()
    rows = [(orjson.loads(o.value)["cause"], o.trace) for o in produced(world, "segments.history")]
    assert rows == [
        ("command", TRACE),
        ("command", TRACE),
        ("expired", None),
        ("segment_deleted", None),
    ]
    assert traces(world, "segments.results")["del"] == TRACE
    world.shards[0].check_replay()
