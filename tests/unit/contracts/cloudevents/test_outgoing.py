"""Results and history rows as CloudEvents in binary mode, which leaves their values unchanged."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from segments.contracts.cloudevents.incoming import Event, unwrap
from segments.contracts.cloudevents.outgoing import event_headers, source_of
from segments.contracts.examples import EXAMPLES
from segments.contracts.messages import message_types_of
from segments.kafka.clients import Record
from segments.state.machine.outputs import ShardOutput
from segments.streams.routing import Router
from segments.streams.shards import Shards
from segments.telemetry import tracing
from tests.support import published_schemas

SOURCE = source_of("p.segments.shards", "c0ffee")
RESULT = EXAMPLES["segments.results", "result"][0].payload
ROW = EXAMPLES["segments.history", "row"][0].payload
# https://github.com/cloudevents/spec: attribute names, and the required ones in binary mode.
ATTRIBUTE = re.compile(r"ce_[a-z0-9]{1,20}")
REQUIRED = {"ce_specversion", "ce_id", "ce_source", "ce_type"}

Headers = dict[str, bytes]


@pytest.mark.parametrize(
    ("topic", "value"), [("segments.results", RESULT), ("segments.history", ROW)]
)
def test_headers_make_a_valid_binary_event(topic: str, value: dict[str, Any]) -> None:
    headers = dict(event_headers(topic, value, SOURCE, "3:1042:0"))
    assert headers.keys() >= REQUIRED | {"ce_time", "ce_subject", "content-type"}
    assert headers["ce_specversion"] == b"1.0"
    assert headers["content-type"] == b"application/json"
    assert all(ATTRIBUTE.fullmatch(name) for name in headers if name != "content-type")
    assert all(headers.values())
    read = unwrap(orjson.dumps(value), list(headers.items()))
    assert read.event == Event("/p.segments.shards/c0ffee", "3:1042:0")
    assert read.data == value
    [message] = [each for each in message_types_of(topic) if each.name in ("result", "row")]
    assert published_schemas.matches(message._replace(key=None), orjson.dumps(value), headers, None)


@pytest.mark.parametrize("status", ["applied", "unchanged", "rejected"])
def test_result_event_type_has_the_status(status: str) -> None:
    value = RESULT | {"status": status, "command_id": "Bestellung-ü"}
    headers = dict(event_headers("segments.results", value, SOURCE, "0:0:0"))
    assert headers["ce_type"].decode() == f"segments.command.{status}"
    assert headers["ce_subject"].decode() == "Bestellung-ü"
    assert headers["ce_time"].decode() == RESULT["at"]


@pytest.mark.parametrize("operation", ["add", "remove", "extend"])
def test_history_event_type_has_the_operation(operation: str) -> None:
    value = ROW | {"operation": operation}
    headers = dict(event_headers("segments.history", value, SOURCE, "0:0:0"))
    assert headers["ce_type"].decode() == f"segments.membership.{operation}"
    assert headers["ce_subject"].decode() == ROW["user_id"]


@pytest.mark.parametrize(
    "topic", ["segments.users", "segments.definitions", "segments.shards", "users.refreshes"]
)
def test_other_topics_have_no_events(topic: str) -> None:
    assert event_headers(topic, {}, SOURCE, "0:0:0") == []


TRACE = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
OUTPUTS = [
    ShardOutput("segments.history", "u", ROW, 3, trace=TRACE),
    ShardOutput("segments.history", "u", ROW, 3),
    ShardOutput("segments.shards", "s", {}, 1, "define"),
    ShardOutput("segments.results", "c", RESULT),
]


def produced(source: str | None, offset: int = 7) -> list[tuple[str, Headers]]:
    """(topic, headers) of the records that a shard produces for `OUTPUTS`."""
    found: list[tuple[str, Headers]] = []

    def produce(topic: str, value: bytes, key: str, **options: Any) -> None:
        assert orjson.loads(value) in (ROW, RESULT, {})
        found.append((topic, dict(options.get("headers", []))))

    shard = SimpleNamespace(
        _events_source=source,
        _commands=SimpleNamespace(count=lambda value: None),
        _names={output.topic: output.topic for output in OUTPUTS},
        _produce=produce,
    )
    record = Record("p.segments.shards", 2, offset, 0, None, b"{}", [])
    Shards._produce_all(shard, OUTPUTS, record)  # type: ignore[arg-type] # a double
    return found


def test_event_id_is_the_log_position_and_output_index() -> None:
    ids = [headers.get("ce_id") for _, headers in produced(SOURCE)]
    assert ids == [b"2:7:0", b"2:7:1", None, b"2:7:3"]
    assert {headers.get("ce_source") for _, headers in produced(SOURCE)} == {SOURCE.encode(), None}


def test_event_ids_are_stable_on_replay_and_unique() -> None:
    assert produced(SOURCE) == produced(SOURCE)
    ids = [
        headers["ce_id"]
        for _, headers in produced(SOURCE) + produced(SOURCE, 8)
        if headers.get("ce_id")
    ]
    assert len(set(ids)) == len(ids) == 6


def test_trace_and_type_headers_are_kept() -> None:
    first, _, define, _ = produced(SOURCE)
    assert first[1]["traceparent"] == dict(tracing.to_headers(TRACE))["traceparent"]
    assert define == ("segments.shards", {"type": b"define"})


def test_no_event_headers_without_the_setting() -> None:
    assert [headers for _, headers in produced(None)] == [
        dict(tracing.to_headers(TRACE)),
        {},
        {"type": b"define"},
        {},
    ]


@pytest.mark.parametrize("cloudevents", [True, False])
def test_router_results_are_events_too(cloudevents: bool) -> None:
    router = Router(
        {"p.segments.commands": ("segments.commands", "beef")},
        log_record_bytes=900_000,
        message_max_bytes=1_048_576,
        cloudevents=cloudevents,
    )
    bad = Record("p.segments.commands", 2, 17, 1_795_500_000_123, None, b'{"id": "c1"}', [])
    dead, result = router.route(bad)
    assert (dead.topic, result.topic) == ("segments.dlq", "segments.results")
    assert router.route(bad) == [dead, result]
    headers = dict(result.headers)
    if not cloudevents:
        assert headers == {}
        return
    assert headers["ce_source"] == b"/p.segments.commands/beef"
    assert headers["ce_id"] == b"2:17"
    assert headers["ce_type"] == b"segments.command.rejected"
    assert headers["ce_time"] == b"2026-11-24T06:00:00.123Z"
    assert headers["ce_subject"] == b"c1"
    assert not {name for name, _ in dead.headers if name.startswith("ce_")}
