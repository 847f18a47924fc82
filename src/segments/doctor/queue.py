"""The dead letter queue: whether there is anything in it."""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka.admin import OffsetSpec

from segments.contracts.times import to_rfc3339
from segments.contracts.topics import DLQ_TOPIC
from segments.doctor import kafka
from segments.doctor.findings import Finding, ok, warn
from segments.doctor.offsets import offsets, partitions_of
from segments.settings import Settings

CHECK = "dead letters"


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """How many records it keeps, and when the newest came."""
    admin = kafka.client(settings)
    partitions = partitions_of(admin, settings.topic(DLQ_TOPIC), timeout_s)
    begins = offsets(admin, partitions, OffsetSpec.earliest(), timeout_s)
    ends = offsets(admin, partitions, OffsetSpec.latest(), timeout_s)
    newest = offsets(admin, partitions, OffsetSpec.max_timestamp(), timeout_s)
    kept = sum(end.offset - begins[place].offset for place, end in ends.items())
    if not kept:
        yield ok(CHECK, "none")
        return
    at = to_rfc3339(max(each.timestamp for each in newest.values()))
    yield warn(
        CHECK,
        f"about {kept} in {settings.topic(DLQ_TOPIC)}, the newest of {at}",
        "read them: docs/operations.md, “The dead letter queue”",
    )
