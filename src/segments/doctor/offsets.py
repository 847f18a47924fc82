"""Partitions and offsets of topics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec


def partitions_of(admin: AdminClient, topic: str, timeout_s: float) -> list[TopicPartition]:
    """Every partition of a topic; empty when it does not exist."""
    # All topics are listed: a request by name might auto-create a missing topic.
    found = admin.list_topics(timeout=timeout_s).topics.get(topic)
    return [] if found is None else [TopicPartition(topic, number) for number in found.partitions]


def offsets(
    admin: AdminClient, partitions: Iterable[TopicPartition], spec: OffsetSpec, timeout_s: float
) -> dict[tuple[str, int], Any]:
    """(topic, partition) -> the broker's result, with `offset` and `timestamp`."""
    request = {TopicPartition(each.topic, each.partition): spec for each in partitions}
    if not request:
        return {}
    futures = admin.list_offsets(
        request, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout_s
    )
    return {
        (each.topic, each.partition): future.result(timeout_s) for each, future in futures.items()
    }
