"""Writes the shard log directly, without a router, and tracks the progress of its consumers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import orjson
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from bench import _common as common
from segments.contracts.auto import Auto
from segments.contracts.log import (
    CHANGE,
    CREATE,
    DEFINE,
    HEADER_SOURCE,
    HEADER_TYPE,
    USER,
    user_record,
)
from segments.contracts.partitioning import partition_of
from segments.settings import Settings

Change = tuple[str, list[str], list[str]]
"""(user id, names to add, names to remove)"""


def define_segments(settings: Settings, names: list[str]) -> None:
    """Append the definition of each segment to the log of every shard."""
    producer = common.bulk_producer(settings)
    for name in names:
        value = orjson.dumps(
            {
                "segment": name,
                "generation": 1,
                "version": 1,
                "state": "active",
                "description": None,
                "created_at": 0,
                "auto": None,
                "position": "0:0",
                "command_id": f"create {name}",
                "actor": None,
            }
        )
        for partition in range(settings.partitions):
            common.produce(
                producer,
                settings.topic("segments.shards"),
                value,
                name,
                partition=partition,
                headers=[(HEADER_TYPE, DEFINE.encode())],
            )
    common.flush(producer)


def log_changes(settings: Settings, changes: Iterable[Change], first_id: int = 0) -> None:
    """Append changes to the log, as the router does."""
    producer = common.bulk_producer(settings)
    topic = settings.topic("segments.shards")
    for number, (user_id, add, remove) in enumerate(changes, first_id):
        value = orjson.dumps(
            {
                "id": f"command-{number}",
                "user_id": user_id,
                "add": [[name, None, None] for name in add],
                "remove": remove,
            }
        )
        partition = partition_of(user_id, settings.partitions)
        source = f"00000000000000000000000000000001:{partition}:{number}"
        common.produce(
            producer,
            topic,
            value,
            user_id,
            partition=partition,
            headers=[(HEADER_TYPE, CHANGE.encode()), (HEADER_SOURCE, source.encode())],
        )
    common.flush(producer)


def log_users(settings: Settings, users: Iterable[str]) -> None:
    """Append active users to the log, as the users application does."""
    producer = common.bulk_producer(settings)
    topic = settings.topic("segments.shards")
    for number, user_id in enumerate(users):
        partition = partition_of(user_id, settings.partitions)
        refresh = ("00000000000000000000000000000002", partition, number)
        common.produce(
            producer,
            topic,
            orjson.dumps(user_record(user_id, "active", None, refresh)),
            user_id,
            partition=partition,
            headers=[(HEADER_TYPE, USER.encode())],
        )
    common.flush(producer)


def log_creation(settings: Settings, segment: str, auto: dict[str, Any]) -> None:
    """Append the creation of an automatic segment to the log of its home shard."""
    value = {
        "id": f"create {segment}",
        "segment": segment,
        "description": None,
        "auto": Auto.model_validate(auto).rule(),
    }
    producer = common.bulk_producer(settings)
    common.produce(
        producer,
        settings.topic("segments.shards"),
        orjson.dumps(value),
        segment,
        partition=partition_of(segment, settings.partitions),
        headers=[(HEADER_TYPE, CREATE.encode())],
    )
    common.flush(producer)


def newest_definitions(settings: Settings) -> dict[str, dict[str, Any]]:
    """The newest version of each definition, by segment."""
    found: dict[str, dict[str, Any]] = {}
    for message in read_all(settings, settings.topic("segments.definitions")):
        definition = orjson.loads(message.value())
        name = definition["segment"]
        if definition["version"] > found.get(name, {"version": 0})["version"]:
            found[name] = definition
    return found


def start_shards(settings: Settings, timeout_s: float) -> common.Process:
    """Start the shards process and wait until it has applied the current log."""
    offsets = Offsets(settings, "segments.shards", "shards")
    ends = offsets.ends()
    process = common.start(settings, "shards")
    common.wait_until(
        lambda: all(c >= e for c, e in zip(offsets.committed(), ends, strict=True)),
        timeout_s,
        "the end of the log",
        poll_s=0.5,
    )
    offsets.close()
    return process


class Offsets:
    """End offsets of a topic and committed offsets of a consumer group."""

    def __init__(self, settings: Settings, topic: str, application: str) -> None:
        self._consumer = Consumer(
            settings.client_config()
            | {"group.id": settings.group(application), "enable.auto.commit": False}
        )
        self._topic = settings.topic(topic)
        self._partitions = range(settings.partitions)

    def ends(self) -> list[int]:
        """The current end offset of each partition."""
        return [
            self._consumer.get_watermark_offsets(TopicPartition(self._topic, p), timeout=30)[1]
            for p in self._partitions
        ]

    def committed(self) -> list[int]:
        """The committed offset of each partition; negative before the first commit."""
        partitions = [TopicPartition(self._topic, p) for p in self._partitions]
        try:
            return [tp.offset for tp in self._consumer.committed(partitions, timeout=30)]
        except KafkaException as error:
            # A broker that has just started may not have elected the group's coordinator yet.
            if error.args[0].code() != KafkaError.NOT_COORDINATOR:
                raise
            return [-1] * len(partitions)

    def close(self) -> None:
        self._consumer.close()


def read_all(settings: Settings, topic_on_cluster: str) -> Iterator[Any]:
    """Every committed message of a topic; the order across partitions is undefined."""
    consumer = Consumer(
        settings.client_config()
        | {
            "group.id": "bench-reads",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
    )
    try:
        partitions = consumer.list_topics(topic_on_cluster, timeout=30)
        numbers = list(partitions.topics[topic_on_cluster].partitions)
        consumer.assign([TopicPartition(topic_on_cluster, number, 0) for number in numbers])
        left = len(numbers)
        while left:
            batch = consumer.consume(10_000, 0.2)
            for message in batch:
                if message.error() is None:
                    yield message
                else:
                    left -= 1
    finally:
        consumer.close()
