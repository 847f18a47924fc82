"""Consumer groups: whether each application is running, and its lag."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from segments.doctor import kafka
from segments.doctor.findings import Finding, fail, ok, warn
from segments.doctor.offsets import offsets, partitions_of
from segments.kafka import topics
from segments.settings import Settings
from segments.telemetry.metrics import STREAM_APPLICATIONS

WARNING_LAG_RECORDS = 10_000
"""A larger lag occurs only while an application cannot keep up or has just started."""


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Members and lag of each application."""
    admin = kafka.client(settings)
    members = _members(admin, settings, timeout_s)
    for application in STREAM_APPLICATIONS:
        lag = _lag(admin, settings, application, timeout_s)
        yield finding(application, members[application], lag)


def finding(application: str, members: int, lag: int) -> Finding:
    """`members` of the consumer group of an application, and its lag in records."""
    seen = f"{members} {'process' if members == 1 else 'processes'}, lag {lag} records"
    if not members:
        return fail(application, seen, f"segments run {application}")
    if lag > WARNING_LAG_RECORDS:
        todo = f"watch the lag; if it grows, start another {application} process"
        return warn(application, seen, todo)
    return ok(application, seen)


def _members(admin: AdminClient, settings: Settings, timeout_s: float) -> dict[str, int]:
    groups = {settings.group(application): application for application in STREAM_APPLICATIONS}
    futures = admin.describe_consumer_groups(list(groups), request_timeout=timeout_s)
    return {groups[name]: len(f.result(timeout_s).members) for name, f in futures.items()}


def _lag(admin: AdminClient, settings: Settings, application: str, timeout_s: float) -> int:
    """Records after the committed offsets; all records where no offset is committed."""
    read = [
        topic.on_cluster(settings)
        for topic in topics.load()
        if application in topic.readers and not topic.name.startswith("changelog")
    ]
    partitions = [each for name in read for each in partitions_of(admin, name, timeout_s)]
    earliest = offsets(admin, partitions, OffsetSpec.earliest(), timeout_s)
    latest = offsets(admin, partitions, OffsetSpec.latest(), timeout_s)
    committed = _committed(admin, settings.group(application), partitions, timeout_s)
    return sum(
        max(0, end.offset - max(earliest[place].offset, committed.get(place, 0)))
        for place, end in latest.items()
    )


def _committed(
    admin: AdminClient, group: str, partitions: list[TopicPartition], timeout_s: float
) -> dict[tuple[str, int], int]:
    request = ConsumerGroupTopicPartitions(group, partitions)
    [future] = admin.list_consumer_group_offsets([request], request_timeout=timeout_s).values()
    found = future.result(timeout_s).topic_partitions
    return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}
