"""Unwrapping of CloudEvents. The router's tests cover whole records."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from segments.contracts.cloudevents.incoming import (
    ATTRIBUTE_MAX_LENGTH,
    CloudEventError,
    Event,
    Payload,
    unwrap,
)

STRUCTURED = "application/cloudevents+json"
BODY = {"answer": 42}


def event(**attributes: Any) -> dict[str, Any]:
    defaults = {"specversion": "1.0", "id": "e1", "source": "/crm", "type": "t", "data": BODY}
    return {name: value for name, value in (defaults | attributes).items() if value is not ...}


def binary(**attributes: bytes) -> list[tuple[str, bytes | None]]:
    defaults = {"specversion": b"1.0", "id": b"e1", "source": b"/crm", "type": b"t"}
    return [(f"ce_{name}", value) for name, value in (defaults | attributes).items()]


@pytest.mark.parametrize(
    "content_type",
    [STRUCTURED, STRUCTURED.upper(), f"{STRUCTURED}; charset=utf-8", f" {STRUCTURED} ;x", None],
)
def test_structured_mode(content_type: str | None) -> None:
    headers = [] if content_type is None else [("Content-Type", content_type.encode())]
    payload = unwrap(orjson.dumps(event()), headers)
    assert payload == Payload(BODY, Event("/crm", "e1"))


@pytest.mark.parametrize(
    "content_type", [None, b"", b"application/json", b"Application/JSON;x=1", b"a/b+json"]
)
def test_binary_mode(content_type: bytes | None) -> None:
    headers = [*binary(), ("content-type", content_type)]
    headers = [(name.upper(), value) for name, value in headers]
    assert unwrap(orjson.dumps(BODY), headers) == Payload(BODY, Event("/crm", "e1"))


def test_binary_mode_does_not_unwrap_a_structured_body() -> None:
    assert unwrap(orjson.dumps(event()), binary()).data == event()


def test_extensions_and_optional_attributes_are_ignored() -> None:
    more = event(time="not looked at", subject=5, traceparent="00-x", dataschema=None)
    assert unwrap(orjson.dumps(more), []).data == BODY
    assert unwrap(orjson.dumps(BODY), [*binary(), ("ce_time", b"\xff")]).data == BODY


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "application/json",
        "application/json; charset=UTF-8",
        "text/json",
        "application/vnd.shop.order+json;v=2",
        "x-shop/json",
    ],
)
def test_json_media_types_are_accepted(content_type: str | None) -> None:
    assert unwrap(orjson.dumps(event(datacontenttype=content_type)), []).data == BODY
    if content_type is not None:
        headers = [*binary(), ("content-type", content_type.encode())]
        assert unwrap(orjson.dumps(BODY), headers).data == BODY


@pytest.mark.parametrize("charset", ["utf-8", "UTF-8", '"utf8"', "us-ascii"])
def test_utf_8_charsets_are_accepted(charset: str) -> None:
    structured = [("content-type", f"{STRUCTURED}; charset={charset}".encode())]
    assert unwrap(orjson.dumps(event()), structured).data == BODY


def test_structured_mode_takes_precedence_over_binary_headers() -> None:
    headers = [*binary(id=b"other"), ("content-type", STRUCTURED.encode())]
    assert unwrap(orjson.dumps(event()), headers) == Payload(BODY, Event("/crm", "e1"))


@pytest.mark.parametrize("data", [None, 0, "", [], {}, False])
def test_any_json_data_is_accepted(data: Any) -> None:
    assert unwrap(orjson.dumps(event(data=data)), []) == Payload(data, Event("/crm", "e1"))


def test_record_without_event_attributes_is_the_payload() -> None:
    for plain in ({"id": "e1", "source": "x"}, [1], "specversion", 5):
        assert unwrap(orjson.dumps(plain), [("ce_id", b"e1")]) == Payload(plain, None)


def test_attribute_length_is_limited() -> None:
    longest = "s" * ATTRIBUTE_MAX_LENGTH
    assert unwrap(orjson.dumps(event(source=longest)), []).event == Event(longest, "e1")
    with pytest.raises(CloudEventError, match="source"):
        unwrap(orjson.dumps(event(source=longest + "s")), [])


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (event(specversion="1.1"), [], "specversion"),
        (event(specversion=None), [], "specversion"),
        (event(id=5), [], "id"),
        (event(source=...), [], "source"),
        (event(data=...), [], "data is missing"),
        (event(data_base64="e30="), [], "mutually exclusive"),
        (event(data=..., data_base64="e30"), [], "base64"),
        (event(data=..., data_base64="e3 0="), [], "base64"),
        (event(data=..., data_base64="é"), [], "base64"),
        (event(datacontenttype="text/plain"), [], "not JSON"),
        (event(datacontenttype="json"), [], "not JSON"),
        (event(datacontenttype="application/jsonp"), [], "not JSON"),
        (event(datacontenttype=5), [], "datacontenttype must be a string"),
        ([event()], [("content-type", b"application/cloudevents-batch+json")], "batched"),
        ([], [("content-type", b"application/CloudEvents-Batch+json; charset=utf-8")], "batched"),
        ([event()], [("content-type", STRUCTURED.encode())], "object"),
        (BODY, [("content-type", b"application/cloudevents")], "not supported"),
        (event(), [("content-type", STRUCTURED.encode() + b"; charset=utf-16")], "utf-16"),
        (BODY, [*binary(), ("content-type", b"application/json;charset=latin1")], "latin1"),
        (BODY, [*binary()[1:], ("ce_specversion", b"1.1")], "specversion"),
        (BODY, binary()[:3], "type"),
        ([], [("content-type", STRUCTURED.encode())], "object"),
        (BODY, [("content-type", b"application/cloudevents+avro")], "not supported"),
        (BODY, binary(specversion=b"0.3"), "specversion"),
        (BODY, binary(id=b""), "id"),
        (BODY, binary(source=b"\xff"), "UTF-8"),
        (BODY, [*binary(), ("content-type", b"text/csv")], "not JSON"),
        (BODY, [("ce_specversion", None)], "specversion"),
    ],
)
def test_invalid_cloud_event_is_rejected_with_the_reason(
    value: Any, headers: Any, reason: str
) -> None:
    with pytest.raises(CloudEventError, match=reason):
        unwrap(orjson.dumps(value), headers)


def test_derived_command_ids_are_unique_per_event() -> None:
    events = [Event("a", "b:c"), Event("a:b", "c"), Event("a", "b"), Event("b", "a"), Event("", "")]
    assert len({e.command_id for e in events}) == len(events)
    assert Event("a", "b").command_id == Event("a", "b").command_id
