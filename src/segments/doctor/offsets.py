"""Ends of topics, as checks need them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec


def partitions_of(admin: AdminClient, topic: str, timeout_s: float) -> list[TopicPartition]:
    """Every partition of a topic; none when it is not there."""
    # Of all topics: asked for by its name, one that is missing might be made by the broker.
    found = admin.list_topics(timeout=timeout_s).topics.get(topic)
    return [] if found is None else [TopicPartition(topic, number) for number in found.partitions]


def offsets(
    admin: AdminClient, partitions: Iterable[TopicPartition], spec: OffsetSpec, timeout_s: float
) -> dict[tuple[str, int], Any]:
    """(topic, partition) -> what the broker says, with `offset` and `timestamp`."""
    asked = {TopicPartition(each.topic, each.partition): spec for each in partitions}
    if not asked:
        return {}
    answers = admin.list_offsets(
        asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=timeout_s
    )
    return {
        (each.topic, each.partition): future.result(timeout_s) for each, future in answers.items()
    }
