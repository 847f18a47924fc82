"""The dead letter queue: whether it holds records."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka.admin import OffsetSpec

from segments.contracts.times import to_rfc3339
from segments.contracts.topics import DLQ_TOPIC
from segments.doctor import kafka
from segments.doctor.findings import Finding, ok, warn
from segments.doctor.offsets import offsets, partitions_of
from segments.settings import Settings

_CHECK = "dead letters"


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """The number of records, and the timestamp of the newest."""
    admin = kafka.client(settings)
    partitions = partitions_of(admin, settings.topic(DLQ_TOPIC), timeout_s)
    earliest = offsets(admin, partitions, OffsetSpec.earliest(), timeout_s)
    latest = offsets(admin, partitions, OffsetSpec.latest(), timeout_s)
    newest = offsets(admin, partitions, OffsetSpec.max_timestamp(), timeout_s)
    kept = sum(end.offset - earliest[place].offset for place, end in latest.items())
    if not kept:
        yield ok(_CHECK, "none")
        return
    at = to_rfc3339(max(each.timestamp for each in newest.values()))
    yield warn(
        _CHECK,
        f"about {kept} records in {settings.topic(DLQ_TOPIC)}, the newest from {at}",
        "see docs/operations.md, “The dead letter queue”",
    )
