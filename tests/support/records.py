"""Writes and reads records of a deployment's topics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, Producer, TopicPartition

from segments.settings import Settings

TIMEOUT_S = 30.0


class Read(NamedTuple):
    """A record as a test reads it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> Any:
        return orjson.loads(self.value or b"null")


def send(
    settings: Settings,
    topic: str,
    values: Sequence[bytes | None],
    *,
    key: bytes | None = None,
    headers: list[tuple[str, bytes]] | None = None,
    partition: int | None = None,
    **config: Any,
) -> None:
    """Produce values to a topic, in order; returns when all are acknowledged."""
    producer = Producer(settings.client_config() | {"linger.ms": 0, **config})
    errors: list[Any] = []
    for value in values:
        producer.produce(
            settings.topic(topic),
            value,
            key,
            -1 if partition is None else partition,
            headers=headers,
            on_delivery=lambda error, _: errors.append(error) if error else None,
        )
    assert producer.flush(TIMEOUT_S) == 0
    assert errors == []


def read(settings: Settings, topic: str, *, committed_only: bool = True) -> list[Read]:
    """Every record of a topic at this moment, by partition and offset."""
    consumer = Consumer(
        settings.client_config()
        | {
            "group.id": "reads-nothing-back",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed" if committed_only else "read_uncommitted",
            "enable.partition.eof": True,
        }
    )
    found: list[Read] = []
    try:
        name = settings.topic(topic)
        partitions = consumer.list_topics(name, timeout=TIMEOUT_S).topics[name].partitions
        consumer.assign([TopicPartition(name, number, 0) for number in partitions])
        open_partitions = set(partitions)
        while open_partitions:
            message = consumer.poll(TIMEOUT_S)
            assert message is not None, f"{name} could not be read to its end"
            if message.error() is not None:
                open_partitions.discard(message.partition())
                continue
            found.append(
                Read(
                    message.partition(),
                    message.offset(),
                    message.key(),
                    message.value(),
                    dict(message.headers() or []),
                )
            )
    finally:
        consumer.close()
    return sorted(found, key=lambda record: (record.partition, record.offset))
