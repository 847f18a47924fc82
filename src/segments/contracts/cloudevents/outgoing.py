"""Results and history rows as CloudEvents 1.0 in binary mode: headers with an unchanged value.

`source` is the topic (with its UUID in Kafka) of the record that caused the event; `id` is that
record's partition and offset, with an index if it caused several events. A replay of the log gives
the same values, so consumers can detect duplicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from segments.contracts.cloudevents.incoming import CONTENT_TYPE_HEADER, HEADER_PREFIX, SPEC_VERSION
from segments.contracts.topics import HISTORY_TOPIC, RESULTS_TOPIC


class _Description(NamedTuple):
    """How the attributes `type` and `subject` follow from a value."""

    type_of: Callable[[Mapping[str, Any]], str]
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
    """`source` of events caused by a topic's records. `topic_id`: its UUID in Kafka."""
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
