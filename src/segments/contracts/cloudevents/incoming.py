"""Incoming CloudEvents 1.0: the payload of a record in either content mode, or without an event.

| mode       | indicated by                                       | payload                 |
|------------|----------------------------------------------------|-------------------------|
| structured | content-type `application/cloudevents+json`, or    | `data` or `data_base64` |
|            | `specversion` in the body                          |                         |
| binary     | header `ce_specversion`                            | the record value        |
| none       | neither                                            | the record value        |
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID, uuid5

import orjson

SPEC_VERSION = "1.0"
CONTENT_TYPE_HEADER = "content-type"
STRUCTURED_JSON = "application/cloudevents+json"
HEADER_PREFIX = "ce_"
ATTRIBUTE_MAX_LENGTH = 4_096
_ID, _SOURCE, _TYPE, _VERSION = "id", "source", "type", "specversion"
_TRACE = ("traceparent", "tracestate")
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
# Namespace of ids derived from events. Never change it: ids must survive a restart.
_EVENT_IDS = UUID("5a0ff0ce-7c0c-5a3e-8f0e-3a1f9c2b7d64")


class CloudEventError(ValueError):
    """The record claims to be a CloudEvent but is invalid or unsupported."""


class Event(NamedTuple):
    """Identity of an event: `source` and `id` together are unique.

    `traceparent` and `tracestate`: from the distributed tracing extension, not validated.
    """

    source: str
    id: str
    traceparent: str | None = None
    tracestate: str | None = None

    @property
    def command_id(self) -> str:
        """Id for a command in this event that has none of its own."""
        # The length distinguishes ("a", "b:c") from ("a:b", "c").
        return str(uuid5(_EVENT_IDS, f"{len(self.source)}:{self.source}:{self.id}"))


class Payload(NamedTuple):
    """The JSON of a record, and the event that wraps it, if any."""

    data: Any
    event: Event | None


def unwrap(value: bytes, headers: Sequence[tuple[str, bytes | None]]) -> Payload:
    """The payload of a record. CloudEventError or orjson.JSONDecodeError if it is invalid."""
    named = {name.lower(): text or b"" for name, text in headers}
    content_type = named.get(CONTENT_TYPE_HEADER, b"").decode("latin-1")
    media_type = _media_type(content_type)
    if media_type.startswith("application/cloudevents"):
        if media_type.startswith("application/cloudevents-batch"):
            raise CloudEventError(
                "batched CloudEvents are not supported: send one record per event"
            )
        if media_type != STRUCTURED_JSON:
            raise CloudEventError(f"content-type {media_type[:100]} is not supported")
        _require_utf8(content_type)
        return _structured(orjson.loads(value))
    if HEADER_PREFIX + _VERSION in named:
        attributes = {
            name.removeprefix(HEADER_PREFIX): _text(name, raw)
            for name, raw in named.items()
            if name in _REQUIRED_HEADERS
        }
        # An invalid trace context does not invalidate the event.
        attributes |= {
            name: named[HEADER_PREFIX + name].decode("ascii", "replace")
            for name in _TRACE
            if HEADER_PREFIX + name in named
        }
        event = _event(attributes)
        _require_json(content_type)
        _require_utf8(content_type)
        return Payload(orjson.loads(value), event)
    body = orjson.loads(value)
    if isinstance(body, dict) and _VERSION in body:
        return _structured(body)
    return Payload(body, None)


_REQUIRED_HEADERS = frozenset(HEADER_PREFIX + name for name in (_ID, _SOURCE, _TYPE, _VERSION))


def _structured(body: Any) -> Payload:
    if not isinstance(body, dict):
        raise CloudEventError("a CloudEvent must be a JSON object")
    event = _event(body)
    content_type = body.get("datacontenttype")
    # A null attribute counts as absent (CloudEvents JSON format, section 2.2).
    if content_type is not None:
        if not isinstance(content_type, str):
            raise CloudEventError("datacontenttype must be a string")
        _require_json(content_type)
    if "data" in body and "data_base64" in body:
        raise CloudEventError("data and data_base64 are mutually exclusive")
    if "data_base64" in body:
        return Payload(orjson.loads(_from_base64(body["data_base64"])), event)
    if "data" not in body:
        raise CloudEventError("data is missing")
    return Payload(body["data"], event)


def _event(attributes: dict[str, Any]) -> Event:
    if attributes.get(_VERSION) != SPEC_VERSION:
        raise CloudEventError(f"specversion must be {SPEC_VERSION}")
    for name in (_ID, _SOURCE, _TYPE):
        text = attributes.get(name)
        if not isinstance(text, str) or not 1 <= len(text) <= ATTRIBUTE_MAX_LENGTH:
            raise CloudEventError(f"{name} must be a string of 1-{ATTRIBUTE_MAX_LENGTH} characters")
    trace = [text if isinstance(text, str) else None for text in map(attributes.get, _TRACE)]
    return Event(attributes[_SOURCE], attributes[_ID], *trace)


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise CloudEventError("data_base64 must be a string")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise CloudEventError("data_base64 is not valid base64") from None


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _require_json(content_type: str) -> None:
    """Require subtype `json` or `+json`; absent means JSON (CloudEvents JSON format, 3.1)."""
    media_type = _media_type(content_type)
    subtype = media_type.partition("/")[2]
    if media_type and subtype != "json" and not subtype.endswith("+json"):
        raise CloudEventError(f"content type {media_type[:100]} is not JSON")


def _require_utf8(content_type: str) -> None:
    """Require UTF-8, the encoding of JSON between systems (RFC 8259, section 8.1)."""
    charset = _CHARSET.search(content_type)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise CloudEventError(f"charset {charset[1][:100]} is not UTF-8")


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CloudEventError(f"header {name} is not UTF-8") from None
