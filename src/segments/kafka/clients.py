"""Kafka clients outside Quix Streams, and options shared with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from confluent_kafka import Producer, TopicCollection
from confluent_kafka.admin import AdminClient

from segments.settings import Settings
from segments.telemetry import logs

# The broker responds as soon as a record or a commit marker arrives: a shorter wait does not reduce
# latency, it only sends more requests and takes broker CPU from commands.
FETCH_WAIT_MS = 200
REQUEST_TIMEOUT_S = 30.0

RecordHeaders = list[tuple[str, bytes]]


class Record(NamedTuple):
    """A consumed record. `timestamp_ms` is of the topic's timestamp type."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: RecordHeaders


GAPLESS: dict[str, Any] = {
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "message.timeout.ms": 0,
}
"""Producer options: records are retried forever, and none is skipped on failure."""


def idempotent_producer(settings: Settings, **overrides: Any) -> Producer:
    """A producer outside Quix checkpoints: idempotent, gapless, partitioned by murmur2 of the key.

    `overrides` are librdkafka options with `_` for `.`.
    """
    config = settings.client_config() | {
        "partitioner": "murmur2",
        "linger.ms": 2,
        "message.max.bytes": settings.kafka.message_max_bytes,
        **GAPLESS,
    }
    config |= {key.replace("_", "."): value for key, value in overrides.items()}
    return Producer(config, logger=logs.of_kafka())


def topic_ids(settings: Settings, topic_names: Iterable[str]) -> dict[str, str]:
    """Kafka's UUID of each topic, by the topic's name in topics.yaml.

    A topic that is deleted and created again has a new one. KafkaException for a missing topic.
    """
    admin = AdminClient(settings.client_config())
    names = {settings.topic(name): name for name in topic_names}
    futures = admin.describe_topics(TopicCollection(list(names)), request_timeout=REQUEST_TIMEOUT_S)
    ids: dict[str, str] = {}
    for on_cluster, future in futures.items():
        uuid = future.result(timeout=REQUEST_TIMEOUT_S).topic_id
        high, low = (
            bits % 2**64
            for bits in (uuid.get_most_significant_bits(), uuid.get_least_significant_bits())
        )
        ids[names[on_cluster]] = f"{high:016x}{low:016x}"
    return ids
