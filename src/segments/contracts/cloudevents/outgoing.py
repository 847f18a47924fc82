"""Results and history rows as CloudEvents 1.0 in binary mode: headers beside an unchanged value.

`source` and `id` name an event once and for all: the topic (with its UUID in Kafka) whose record
led to it, and that record's place, with a number where one record leads to several events. A
replay of the log gives the same ones, so whoever reads an event twice can tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from segments.contracts.cloudevents.incoming import CONTENT_TYPE_HEADER, HEADER_PREFIX, SPEC_VERSION
from segments.contracts.topics import HISTORY_TOPIC, RESULTS_TOPIC


class _Description(NamedTuple):
    """What an event says of a value: its type, and who or what it is about."""

    type_of: Callable[[dict[str, Any]], str]
    subject: str


_DESCRIPTIONS = {
    RESULTS_TOPIC: _Description(
        lambda result: f"segments.command.{result['status']}", "command_id"
    ),
    HISTORY_TOPIC: _Description(lambda row: f"segments.membership.{row['operation']}", "user_id"),
}
_CONSTANT = [
    (CONTENT_TYPE_HEADER, b"application/json"),
    (f"{HEADER_PREFIX}specversion", SPEC_VERSION.encode()),
]


def source_of(topic_on_cluster: str, topic_id: str) -> str:
    """The source of events that follow from a topic's records. `topic_id`: its UUID in Kafka."""
    return f"/{topic_on_cluster}/{topic_id}"


def event_headers(topic: str, value: bytes, source: str, event_id: str) -> list[tuple[str, bytes]]:
    """The headers that make a record of this topic an event; none for topics without events."""
    description = _DESCRIPTIONS.get(topic)
    if description is None:
        return []
    body = orjson.loads(value)
    attributes = {
        "id": event_id,
        "source": source,
        "type": description.type_of(body),
        "time": body["at"],
        "subject": body[description.subject],
    }
    return _CONSTANT + [
        (HEADER_PREFIX + name, attribute.encode()) for name, attribute in attributes.items()
    ]
