"""Reads all topics of a deployment incrementally, each record once."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson
from confluent_kafka import Consumer, KafkaError, TopicPartition

from segments.settings import Settings

TOPICS = (
    "segments.commands",
    "users.events",
    "users.refreshes",
    "segments.shards",
    "segments.users",
    "segments.definitions",
    "segments.results",
    "segments.history",
    "segments.dlq",
)
TIMEOUT_S = 60.0
_BATCH = 2_000
_POLL_S = 0.05


class Entry(NamedTuple):
    """A committed record. `timestamp_ms` is of the type that the topic has."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes]

    @property
    def json(self) -> Any:
        return orjson.loads(self.value or b"null")


class TopicTail:
    """The committed records of one topic, by partition in the order of their offsets."""

    def __init__(self, partitions: int) -> None:
        self.records: dict[int, list[Entry]] = {number: [] for number in range(partitions)}

    def all(self) -> list[Entry]:
        """Every record read so far, partition by partition."""
        return [entry for partition in sorted(self.records) for entry in self.records[partition]]

    def newest(self) -> dict[bytes | None, Entry]:
        """The last record of each key, as compaction would leave it."""
        return {entry.key: entry for entry in self.all()}

    def last_offsets(self) -> dict[int, int]:
        """Offset of the last record of each partition, -1 if it has none."""
        return {n: (found[-1].offset if found else -1) for n, found in self.records.items()}


class TopicTails:
    """All topics by their names in topics.yaml."""

    def __init__(self, settings: Settings) -> None:
        self._of = {settings.topic(name): TopicTail(settings.partitions) for name in TOPICS}
        self._on_cluster = {name: settings.topic(name) for name in TOPICS}
        config = settings.client_config() | {
            "group.id": "reads-nothing-back",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "log_level": 0,
        }
        self._consumer = Consumer(config | {"auto.offset.reset": "earliest"})
        self._places = [
            TopicPartition(topic, number, 0)
            for topic, tail in self._of.items()
            for number in tail.records
        ]
        self._consumer.assign(self._places)
        # Offset queries would wait behind fetches on one connection, so they use a second consumer.
        self._metadata_consumer = Consumer(config)

    def __getitem__(self, topic: str) -> TopicTail:
        return self._of[self._on_cluster[topic]]

    def update(self) -> TopicTails:
        """Read what was committed since the last call."""
        behind = [(place, self._end(place)) for place in self._places]
        while behind := [(place, end) for place, end in behind if self._position(place) < end]:
            for message in self._consumer.consume(_BATCH, _POLL_S):
                self._keep(message)
        return self

    def _end(self, place: TopicPartition) -> int:
        return int(self._metadata_consumer.get_watermark_offsets(place, timeout=TIMEOUT_S)[1])

    def _position(self, place: TopicPartition) -> int:
        return max(int(self._consumer.position([place])[0].offset), 0)

    def _keep(self, message: Any) -> None:
        if (error := message.error()) is not None:
            assert error.code() == KafkaError._TRANSPORT, str(error)
            return  # the broker is unavailable; the client reconnects by itself
        self._of[message.topic()].records[message.partition()].append(
            Entry(
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key(),
                message.value(),
                dict(message.headers() or []),
            )
        )

    def close(self) -> None:
        self._consumer.close()
        self._metadata_consumer.close()
