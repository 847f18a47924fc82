"""Results and history rows as CloudEvents 1.0 in binary mode: headers beside an unchanged value.

`source` and `id` name an event once and for all: the topic (with its UUID in Kafka) whose record
led to it, and that record's place, with a number where one record leads to several events. A
replay of the log gives the same ones, so whoever reads an event twice can tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from segments.contracts.cloudevents.incoming import CONTENT_TYPE, HEADER_PREFIX, SPEC_VERSION

RESULTS, HISTORY = "segments.results", "segments.history"


class _Description(NamedTuple):
    """What an event says of a value: its type, and who or what it is about."""

    type_of: Callable[[Mapping[str, Any]], str]
    subject: str


_DESCRIPTIONS = {
    RESULTS: _Description(lambda result: f"segments.command.{result['status']}", "command_id"),
    HISTORY: _Description(lambda row: f"segments.membership.{row['operation']}", "user_id"),
}
_CONSTANT = [
    (CONTENT_TYPE, b"application/json"),
    (f"{HEADER_PREFIX}specversion", SPEC_VERSION.encode()),
]


def source_of(topic_on_cluster: str, topic_id: str) -> str:
    """The source of events that follow from a topic's records. `topic_id`: its UUID in Kafka."""
    return f"/{topic_on_cluster}/{topic_id}"


def event_headers(
    topic: str, value: Mapping[str, Any], source: str, event_id: str
) -> list[tuple[str, bytes]]:
    """The headers that make a record of this topic an event; none for topics without events.

    `value` is the record's value before it is encoded.
    """
    description = _DESCRIPTIONS.get(topic)
    if description is None:
        return []
    attributes = {
        "id": event_id,
        "source": source,
        "type": description.type_of(value),
        "time": value["at"],
        "subject": value[description.subject],
    }
    return _CONSTANT + [
        (HEADER_PREFIX + name, attribute.encode()) for name, attribute in attributes.items()
    ]
