"""The pure function that routes external records, applied by the application in `router.py`.

| record | output |
|---|---|
| a command | one record of the shard log, keyed by user id or segment name |
| a user event | one refresh, keyed by user id |
| invalid | the original on the dead letter queue, and a result `invalid` if the id is readable |

The same record always gives the same output, so a redelivery repeats it exactly; by the header
`src` the shard recognises the duplicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from segments.contracts.cloudevents import outgoing
from segments.contracts.cloudevents.incoming import CloudEventError, Payload, unwrap
from segments.contracts.commands import COMMAND_ADAPTER, COMMAND_TYPES, derived_command_id
from segments.contracts.documents import Result, ResultError
from segments.contracts.events import UserEvent
from segments.contracts.log import (
    HEADER_SOURCE,
    HEADER_TYPE,
    encode,
    source_coordinates,
)
from segments.contracts.names import CommandId
from segments.contracts.times import to_rfc3339
from segments.contracts.topics import (
    DLQ_TOPIC,
    REFRESHES_TOPIC,
    RESULTS_TOPIC,
    SHARDS_TOPIC,
    USER_EVENTS_TOPIC,
)
from segments.kafka.clients import Record, RecordHeaders
from segments.streams import dlq
from segments.telemetry import tracing

ROUTING_STAGES = ("decode", "validate", "size", "unexpected")
"""The stages at which a record can be rejected."""

_COMMAND_ID: TypeAdapter[str] = TypeAdapter(CommandId)
_MAX_FIELDS_LISTED = 5
_FIELD_MAX_LENGTH = 64
_MAX_TIMESTAMP_MS = 253_402_300_799_999


class RoutedRecord(NamedTuple):
    """A record to produce. `topic` is the name in topics.yaml; the partition follows from `key`."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


class InvalidRecordError(Exception):
    """The record is invalid. `command_id` is set if the sender can be sent a result."""

    def __init__(
        self, stage: str, reason: str, message: str, *, command_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.reason = reason
        self.message = message
        self.command_id = command_id


class Router:
    """Routes the records of one deployment.

    `sources`: name on the cluster -> (name in topics.yaml, Kafka's UUID of the topic).
    """

    def __init__(
        self,
        sources: Mapping[str, tuple[str, str]],
        *,
        log_record_bytes: int,
        message_max_bytes: int,
        cloudevents: bool = False,
    ) -> None:
        self._sources = sources
        self._cloudevents = cloudevents
        self._log_record_bytes = log_record_bytes
        self._message_max_bytes = message_max_bytes

    def route(self, record: Record) -> list[RoutedRecord]:
        """The records to produce, in order. Never raises because of a record's contents."""
        name, topic_id = self._sources[record.topic]
        payload: Payload | None = None
        try:
            payload = _payload(record)
            if name == USER_EVENTS_TOPIC:
                return [_refresh(payload)]
            return [self._log_record(record, topic_id, payload)]
        except InvalidRecordError as invalid:
            return self._reject(record, invalid, payload)
        except Exception as error:  # noqa: BLE001 - one record must not stop the partition
            unexpected = InvalidRecordError("unexpected", type(error).__name__, str(error))
            return self._reject(record, unexpected, payload)

    def _log_record(self, record: Record, topic_id: str, payload: Payload) -> RoutedRecord:
        derived = (
            payload.event.command_id
            if payload.event is not None
            # The topic's UUID, not its name: offsets restart when a topic is recreated.
            else derived_command_id(topic_id, record.partition, record.offset)
        )
        try:
            command = COMMAND_ADAPTER.validate_python(payload.data)
        except ValidationError as error:
            raise InvalidRecordError(
                "validate",
                "invalid",
                describe(error),
                command_id=readable_id(payload.data, derived),
            ) from None
        log_type, key, value = command.log_record(derived, _trace(record, payload))
        encoded = encode(value)
        if len(encoded) > self._log_record_bytes:
            raise InvalidRecordError(
                "size",
                "too_large",
                f"the command has {len(encoded)} bytes, the limit is {self._log_record_bytes}",
                command_id=value["id"],
            )
        source = source_coordinates(topic_id, record.partition, record.offset)
        headers = [(HEADER_TYPE, log_type.encode()), (HEADER_SOURCE, source.encode())]
        return RoutedRecord(SHARDS_TOPIC, key.encode(), encoded, headers)

    def _reject(
        self, record: Record, invalid: InvalidRecordError, payload: Payload | None
    ) -> list[RoutedRecord]:
        key, value, original = dlq.shorten(
            record.key, record.value, record.headers, self._message_max_bytes
        )
        headers = dlq.headers(
            original,
            (record.topic, record.partition, record.offset),
            stage=invalid.stage,
            exception=invalid.reason,
            message=invalid.message,
        )
        outputs = [RoutedRecord(DLQ_TOPIC, key, value, headers)]
        if invalid.command_id is not None:
            trace = _trace(record, payload)
            outputs.append(self._rejection(record, invalid.command_id, invalid.message, trace))
        return outputs

    def _rejection(
        self, record: Record, command_id: str, detail: str, trace: tracing.Trace | None
    ) -> RoutedRecord:
        value = _invalid_result(record, command_id, detail)
        headers = [] if trace is None else tracing.to_headers(trace)
        if self._cloudevents:
            source = outgoing.source_of(record.topic, self._sources[record.topic][1])
            event_id = f"{record.partition}:{record.offset}"
            headers = headers + outgoing.event_headers(RESULTS_TOPIC, value, source, event_id)
        return RoutedRecord(RESULTS_TOPIC, command_id.encode(), encode(value), headers)


def _payload(record: Record) -> Payload:
    if record.value is None:
        raise InvalidRecordError("decode", "null", "the record has no value")
    try:
        return unwrap(record.value, record.headers)
    except orjson.JSONDecodeError as error:
        raise InvalidRecordError("decode", "not_json", str(error)) from None
    except CloudEventError as error:
        raise InvalidRecordError("decode", "cloud_event", str(error)) from None


def _trace(record: Record, payload: Payload | None) -> tracing.Trace | None:
    """Trace context of a record: from its headers, or from its CloudEvent."""
    if record.headers and (trace := tracing.of_headers(record.headers)) is not None:
        return trace
    event = None if payload is None else payload.event
    if event is None or event.traceparent is None:
        return None
    return tracing.validated([event.traceparent], [event.tracestate] if event.tracestate else [])


def _refresh(payload: Payload) -> RoutedRecord:
    try:
        event = UserEvent.model_validate(payload.data)
    except ValidationError as error:
        raise InvalidRecordError("validate", "invalid", describe(error)) from None
    value = {"user_id": event.user_id, "reason": "event"}
    return RoutedRecord(REFRESHES_TOPIC, event.user_id.encode(), encode(value), [])


def _invalid_result(record: Record, command_id: str, detail: str) -> dict[str, Any]:
    at_ms = min(max(record.timestamp_ms, 0), _MAX_TIMESTAMP_MS)
    result = Result(
        command_id=command_id,
        status="rejected",
        error=ResultError(code="invalid", detail=detail),
        changes=[],
        position=None,
        at=to_rfc3339(at_ms),
    )
    return result.model_dump(mode="json")


def readable_id(data: Any, derived: str) -> str | None:
    """The id under which the sender of an invalid command expects its result, if any."""
    if not isinstance(data, dict):
        return None
    if data.get("id") is None:
        return derived
    try:
        return _COMMAND_ID.validate_python(data["id"])
    except ValidationError:
        return None


def describe(error: ValidationError) -> str:
    """`field: error` for the first few invalid fields, as one line of bounded length."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    listed = [
        f"{_field(problem['type'], problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
        for problem in problems[:_MAX_FIELDS_LISTED]
    ]
    if len(problems) > _MAX_FIELDS_LISTED:
        listed.append(f"and {len(problems) - _MAX_FIELDS_LISTED} more")
    return "; ".join(listed)[: dlq.MESSAGE_MAX_LENGTH]


def _field(problem: str, location: Sequence[int | str]) -> str:
    # The first step of a command's location is its type, not a field.
    steps = location[1:] if location and location[0] in COMMAND_TYPES else location
    if not steps:
        return "type" if problem.startswith("union_tag") else "record"
    # Names of unknown fields are untrusted: escape control characters and limit the length.
    path = ".".join(str(step)[:_FIELD_MAX_LENGTH] for step in steps)
    return path.encode("unicode_escape").decode("ascii")[: 2 * _FIELD_MAX_LENGTH]
