"""Consumer groups: whether each application runs, and how much waits for it."""

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
"""More than this waits only where an application does not keep up, or has just started."""


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Members and lag of each application."""
    admin = kafka.client(settings)
    members = _members(admin, settings, timeout_s)
    for application in STREAM_APPLICATIONS:
        lag = _lag(admin, settings, application, timeout_s)
        yield finding(application, members[application], lag)


def finding(application: str, members: int, lag: int) -> Finding:
    """How an application stands. `lag`: records that wait for it."""
    seen = f"{members} {'process' if members == 1 else 'processes'}, {lag} records wait"
    if not members:
        return fail(application, seen, f"segments run {application}")
    if lag > WARNING_LAG_RECORDS:
        todo = f"see whether it falls; if it grows, run more of {application}"
        return warn(application, seen, todo)
    return ok(application, seen)


def _members(admin: AdminClient, settings: Settings, timeout_s: float) -> dict[str, int]:
    groups = {settings.group(application): application for application in STREAM_APPLICATIONS}
    answers = admin.describe_consumer_groups(list(groups), request_timeout=timeout_s)
    return {groups[name]: len(f.result(timeout_s).members) for name, f in answers.items()}


def _lag(admin: AdminClient, settings: Settings, application: str, timeout_s: float) -> int:
    """Records after the committed offsets; all that there are where nothing is committed."""
    read = [
        topic.on_cluster(settings)
        for topic in topics.load()
        if application in topic.readers and not topic.name.startswith("changelog")
    ]
    partitions = [each for name in read for each in partitions_of(admin, name, timeout_s)]
    begins = offsets(admin, partitions, OffsetSpec.earliest(), timeout_s)
    ends = offsets(admin, partitions, OffsetSpec.latest(), timeout_s)
    committed = _committed(admin, settings.group(application), partitions, timeout_s)
    return sum(
        max(0, end.offset - max(begins[place].offset, committed.get(place, 0)))
        for place, end in ends.items()
    )


def _committed(
    admin: AdminClient, group: str, partitions: list[TopicPartition], timeout_s: float
) -> dict[tuple[str, int], int]:
    asked = ConsumerGroupTopicPartitions(group, partitions)
    [answer] = admin.list_consumer_group_offsets([asked], request_timeout=timeout_s).values()
    found = answer.result(timeout_s).topic_partitions
    return {(each.topic, each.partition): each.offset for each in found if each.offset >= 0}
