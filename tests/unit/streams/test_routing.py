"""Routing of external records, without a broker."""

from __future__ import annotations

import base64
import uuid
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments.kafka.clients import Record
from segments.streams.routing import RoutedRecord, Router

USER = "3f2504e0-4f89-41d3-9a0c-0305e82c3301"
MESSAGE_MAX_BYTES = 16_777_216
AT_MS = 1_795_500_000_123


def make_router(**limits: int) -> Router:
    sources = {
        "p.segments.commands": ("segments.commands", "c0ffee"),
        "p.users.events": ("users.events", "beef"),
    }
    defaults: dict[str, Any] = {"log_record_bytes": 900_000, "message_max_bytes": MESSAGE_MAX_BYTES}
    return Router(sources, **(defaults | limits))


def record(value: bytes | None, **fields: Any) -> Record:
    defaults: dict[str, Any] = {
        "topic": "p.segments.commands",
        "partition": 2,
        "offset": 17,
        "timestamp_ms": AT_MS,
        "key": b"any",
        "headers": [],
    }
    return Record(value=value, **(defaults | fields))


def command(**fields: Any) -> dict[str, Any]:
    defaults = {"type": "change_memberships", "id": "c1", "user_id": USER, "add": ["a"]}
    return {k: v for k, v in (defaults | fields).items() if v is not ...}


def route(value: Any, router: Router | None = None, **fields: Any) -> list[RoutedRecord]:
    raw = value if isinstance(value, bytes) or value is None else orjson.dumps(value)
    return (router or make_router()).route(record(raw, **fields))


def reason(dead: RoutedRecord) -> dict[str, str]:
    prefix = "__connect.errors."
    return {n[len(prefix) :]: v.decode() for n, v in dead.headers if n.startswith(prefix)}


def invalid_result(outputs: list[RoutedRecord]) -> dict[str, Any] | None:
    results = [o for o in outputs if o.topic == "segments.results"]
    if not results:
        return None
    result: dict[str, Any] = orjson.loads(results[0].value or b"")
    assert results[0].key == result["command_id"].encode()
    return result


def test_a_change_goes_to_its_user() -> None:
    body = command(
        add=[
            "a",
            {"segment": "b", "ttl": "PT1M"},
            {"segment": "c", "expires_at": "2030-01-01T00:00:00+03:00"},
        ],
        remove=["d"],
        actor="tests",
    )
    (output,) = route(body)
    assert output.topic == "segments.shards"
    assert output.key == USER.encode()
    assert output.headers == [("type", b"change"), ("src", b"c0ffee:2:17")]
    assert orjson.loads(output.value or b"") == {
        "id": "c1",
        "actor": "tests",
        "user_id": USER,
        "add": [["a", None, None], ["b", 60_000, None], ["c", None, 1_893_445_200_000]],
        "remove": ["d"],
    }


@pytest.mark.parametrize(
    ("kind", "type_header"),
    [("create_segment", b"create"), ("update_segment", b"update"), ("delete_segment", b"delete")],
)
def test_a_segment_command_goes_to_its_segment(kind: str, type_header: bytes) -> None:
    (output,) = route({"type": kind, "segment": "Überall_1", "id": "x"})
    assert output.key == "Überall_1".encode()
    assert output.headers[0] == ("type", type_header)


@pytest.mark.parametrize(
    "form", [USER.upper(), USER.replace("-", ""), "{" + USER + "}", f"urn:uuid:{USER}"]
)
def test_a_user_id_in_another_form_is_the_same_user(form: str) -> None:
    (output,) = route(command(user_id=form))
    assert output.key == USER.encode()
    assert orjson.loads(output.value or b"")["user_id"] == USER


def test_a_derived_id_depends_only_on_the_source_position() -> None:
    (first,) = route(command(id=...))
    (again,) = route(command(id=..., add=["other"]))
    (elsewhere,) = route(command(id=...), offset=18)
    ids = [orjson.loads(o.value or b"")["id"] for o in (first, again, elsewhere)]
    assert ids[0] == ids[1] != ids[2]
    assert uuid.UUID(ids[0]).version == 5


def structured(data: Any, **fields: Any) -> dict[str, Any]:
    defaults = {"specversion": "1.0", "id": "e1", "source": "/crm", "type": "t", "data": data}
    return {k: v for k, v in (defaults | fields).items() if v is not ...}


BINARY = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e1"),
    ("ce_source", b"/crm"),
    ("ce_type", b"t"),
    ("content-type", b"application/json"),
]
STRUCTURED = [("Content-Type", b"application/cloudevents+json; charset=UTF-8")]


def test_every_mode_of_a_cloud_event_gives_the_same_record() -> None:
    body = command(id=...)
    encoded = base64.b64encode(orjson.dumps(body)).decode()
    ways = [
        route(structured(body)),
        route(structured(body), headers=STRUCTURED),
        route(structured(..., data_base64=encoded), headers=STRUCTURED),
        route(body, headers=BINARY),
    ]
    assert all(way == ways[0] for way in ways)
    assert ways[0][0].topic == "segments.shards"


def test_the_event_id_is_used_only_without_a_command_id() -> None:
    (own,) = route(structured(command(id="own")))
    (derived,) = route(structured(command(id=...)))
    (moved,) = route(structured(command(id=...)), offset=99, partition=0)
    (other,) = route(structured(command(id=...), source="/shop"))
    ids = [orjson.loads(o.value or b"")["id"] for o in (own, derived, moved, other)]
    assert ids[0] == "own"
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("value", "headers"),
    [
        (structured(command(), specversion="0.3"), []),
        (structured(command(), specversion=1.0), []),
        (structured(command(), id=""), []),
        (structured(command(), source=5), []),
        (structured(command(), type=...), []),
        (structured(...), []),
        (structured(command(), data_base64="e30="), []),
        (structured(..., data_base64="not base64!"), []),
        (structured(..., data_base64=7), []),
        (structured(command(), datacontenttype="application/xml"), []),
        (structured(command(), datacontenttype=[]), []),
        ([structured(command())], STRUCTURED),
        ([structured(command())], [("content-type", b"application/cloudevents-batch+json")]),
        (command(), [("ce_specversion", b"1.0")]),
        (command(), [*BINARY[:-1], ("content-type", b"application/avro")]),
        (command(), [*BINARY[:1], ("ce_id", b"\xff"), *BINARY[2:]]),
    ],
)
def test_an_invalid_cloud_event_is_rejected(value: Any, headers: list[tuple[str, bytes]]) -> None:
    (dead,) = route(value, headers=headers)
    assert dead.topic == "segments.dlq"
    assert reason(dead)["exception.class.name"] == "cloud_event"


UNREADABLE = {
    "null": None,
    "empty": b"",
    "not JSON": b"{",
    "not UTF-8": b'{"id":"\xff"}',
    "NUL": b"\x00",
    "nested": b"[" * 1_000_000,
    "nested objects": b'{"a":' * 200_000,
    "lone surrogate": b'{"id":"\\ud800"}',
    "NaN": b"NaN",
    "BOM": b"\xef\xbb\xbf{}",
    "number": b"5",
    "string": b'"x"',
    "list": b"[]",
    "huge number": b'{"type":"change_memberships","user_id":' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("value", UNREADABLE.values(), ids=UNREADABLE.keys())
@pytest.mark.parametrize("topic", ["p.segments.commands", "p.users.events"])
def test_an_unreadable_record_is_kept_unchanged(value: bytes | None, topic: str) -> None:
    original = [("h", b"\x00\xff"), ("h", b"2")]
    dead, *rest = route(value, topic=topic, headers=original)
    assert (dead.topic, dead.key, dead.value) == ("segments.dlq", b"any", value)
    assert dead.headers[:2] == original
    headers = reason(dead)
    assert (headers["topic"], headers["partition"], headers["offset"]) == (topic, "2", "17")
    assert headers["exception.message"]
    assert {o.topic for o in rest} <= {"segments.results"}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"user_id": "x"}, "user_id"),
        ({"user_id": 5}, "user_id"),
        ({"user_id": ...}, "user_id"),
        ({"add": "a"}, "add"),
        ({"add": [5]}, "add.0"),
        ({"add": [{"segment": "a", "ttl": 0}]}, "add.0.ttl"),
        ({"add": [{"segment": "a", "ttl": -1}]}, "add.0.ttl"),
        ({"add": [{"segment": "a", "ttl": "P101Y"}]}, "add.0.ttl"),
        ({"add": [{"segment": "a", "ttl": True}]}, "add.0.ttl"),
        ({"add": [{"segment": "a", "expires_at": "2030-01-01"}]}, "add.0.expires_at"),
        ({"add": [{"segment": "a", "ttl": 5, "expires_at": "2030-01-01T00:00:00Z"}]}, "add.0"),
        ({"add": [f"s{n}" for n in range(101)]}, "add"),
        ({"add": [f"s{n}" for n in range(60)], "remove": [f"r{n}" for n in range(41)]}, "record"),
        ({"add": []}, "record"),
        ({"remove": ["a"]}, "a"),
        ({"add": [""]}, "add.0.segment"),
        ({"add": ["x" * 129]}, "add.0.segment"),
        ({"add": ["../x"]}, "add.0.segment"),
        ({"add": ["a;b"]}, "add.0.segment"),
        ({"add": ["a\nb"]}, "add.0.segment"),
        ({"add": ["=a"]}, "add.0.segment"),
        ({"add": ["e\u0301"]}, "NFC"),
        ({"add": ["\U0001f600"]}, "add.0.segment"),
        ({"remove": ["a\x00"]}, "remove.0"),
        ({"actor": "x" * 129}, "actor"),
        ({"type": "unheard_of"}, "type"),
        ({"type": ["change_memberships"]}, "type"),
        ({"type": ...}, "type"),
        ({"surprise": 1}, "surprise"),
        ({"auto": {"percent": 5}}, "auto"),
    ],
)
def test_the_result_of_an_invalid_command_names_the_field(
    fields: dict[str, Any], named: str
) -> None:
    outputs = route(command(**fields))
    assert [o.topic for o in outputs] == ["segments.dlq", "segments.results"]
    result = invalid_result(outputs)
    assert result is not None
    assert result["command_id"] == "c1"
    assert result["status"] == "rejected"
    assert result["error"]["code"] == "invalid"
    assert named in result["error"]["detail"]
    assert result["position"] is None
    assert result["changes"] == []
    assert result["at"] == "2026-11-24T06:00:00.123Z"


@pytest.mark.parametrize("bad", ["", "x" * 129, "a\nb", 5, [], {}, True])
def test_an_invalid_id_gets_no_result(bad: Any) -> None:
    (dead,) = route(command(id=bad))
    assert dead.topic == "segments.dlq"
    assert "id" in reason(dead)["exception.message"]


def test_an_invalid_command_without_id_is_answered_under_the_derived_one() -> None:
    (accepted,) = route(command(id=...))
    refused = invalid_result(route(command(id=..., user_id="x")))
    assert refused is not None
    assert refused["command_id"] == orjson.loads(accepted.value or b"")["id"]


def test_a_record_too_large_for_the_log_is_rejected() -> None:
    names = [f"s{n}" + "x" * 100 for n in range(100)]
    outputs = route(command(add=names), make_router(log_record_bytes=5_000))
    assert [o.topic for o in outputs] == ["segments.dlq", "segments.results"]
    result = invalid_result(outputs)
    assert result is not None
    assert "limit is 5000" in result["error"]["detail"]


def test_a_dead_letter_that_is_too_large_is_truncated() -> None:
    limit = 1_048_576
    router = make_router(message_max_bytes=limit)
    (dead,) = router.route(record(b"[" * limit, key=b"k" * limit, headers=[("h", b"v" * limit)]))
    size = len(dead.key or b"") + len(dead.value or b"")
    assert size + sum(len(n) + len(v) for n, v in dead.headers) < limit
    assert dead.value
    assert reason(dead)["offset"] == "17"


def test_an_internal_error_dead_letters_the_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("a mistake")

    monkeypatch.setattr("segments.streams.routing.encode", broken)
    (dead,) = route(command())
    assert reason(dead)["stage"] == "unexpected"
    assert reason(dead)["exception.class.name"] == "RuntimeError"


def test_a_replayed_record_that_fails_again_has_one_reason() -> None:
    (first,) = route(b"{")
    (second,) = route(first.value, headers=first.headers, offset=99)
    names = [name for name, _ in second.headers]
    assert len(names) == len(set(names))
    assert reason(second)["offset"] == "99"


@pytest.mark.parametrize(
    "value",
    [{"user_id": USER.upper(), "more": {"x": [1]}}, structured({"user_id": USER})],
)
def test_a_user_event_becomes_a_refresh(value: Any) -> None:
    (output,) = route(value, topic="p.users.events")
    assert output.topic == "users.refreshes"
    assert output.key == USER.encode()
    assert orjson.loads(output.value or b"") == {"user_id": USER, "reason": "event"}


@pytest.mark.parametrize("value", [{}, {"user_id": None}, {"user_id": "x"}, [], 5, {"id": USER}])
def test_a_user_event_without_a_user_is_rejected(value: Any) -> None:
    (dead,) = route(value, topic="p.users.events")
    assert dead.topic == "segments.dlq"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
FIELDS = st.dictionaries(
    st.sampled_from(
        ["type", "id", "user_id", "segment", "add", "remove", "actor", "description", "data",
         "specversion", "source", "data_base64", "datacontenttype"]
    ),
    JSON | st.sampled_from(["change_memberships", "create_segment", USER, "1.0", "a"]),
)  # fmt: skip
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["content-type", "ce_specversion", "ce_id", "ce_source", "ce_type", "x"]),
        st.binary(max_size=20)
        | st.sampled_from([b"1.0", b"application/json", b"application/cloudevents+json"]),
    ),
    max_size=6,
)


@given(
    value=st.none()
    | st.binary(max_size=200)
    | (FIELDS | JSON).map(lambda v: orjson.dumps(v, option=orjson.OPT_PASSTHROUGH_SUBCLASS)),
    headers=HEADERS,
    topic=st.sampled_from(["p.segments.commands", "p.users.events"]),
    timestamp_ms=st.integers(-1, 2**62),
)
def test_any_record_has_exactly_one_deterministic_outcome(
    value: bytes | None, headers: list[tuple[str, bytes]], topic: str, timestamp_ms: int
) -> None:
    came = record(value, headers=headers, topic=topic, timestamp_ms=timestamp_ms)
    outputs = make_router().route(came)
    assert outputs == make_router().route(came)
    topics = [output.topic for output in outputs]
    assert topics in (
        ["segments.shards"],
        ["users.refreshes"],
        ["segments.dlq"],
        ["segments.dlq", "segments.results"],
    )
    if topics[0] == "segments.dlq":
        assert outputs[0].value == value
        assert reason(outputs[0])["stage"] != "unexpected"
    else:
        assert outputs[0].key
        assert orjson.loads(outputs[0].value or b"")
