"""Compares the broker's clock, which is the service's time, with the clock of this machine.

Nothing is written. Shards append a tick to their log every second, and the broker stamps each
record with its own clock (LogAppendTime). If both clocks agree, the newest timestamp is no older
than one tick plus the latency. A timestamp in the future means that the broker's clock is ahead. An
old one means that its clock is behind or that no shards process appends ticks; only the check of
the shards' consumer group can tell which.
"""

from __future__ import annotations

from collections.abc import Iterator

from confluent_kafka.admin import OffsetSpec

from segments.contracts import times
from segments.contracts.topics import SHARDS_TOPIC
from segments.doctor import kafka
from segments.doctor.findings import Finding, fail, ok, warn
from segments.doctor.offsets import offsets, partitions_of
from segments.settings import Settings

_CHECK = "clock of the broker"
AHEAD_MS = 250
BEHIND_MS = 5_000
FAR_MS = 60_000


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """The age of the newest timestamp of the log."""
    admin = kafka.client(settings)
    partitions = partitions_of(admin, settings.topic(SHARDS_TOPIC), timeout_s)
    # A record appended after the request must not appear to come from the future.
    newest = offsets(admin, partitions, OffsetSpec.max_timestamp(), timeout_s)
    now_ms = times.now_ms()
    stamps = [each.timestamp for each in newest.values() if each.timestamp >= 0]
    yield finding(now_ms - max(stamps) if stamps else None, settings.tick_interval_ms)


def finding(age_ms: int | None, tick_ms: int) -> Finding:
    """`age_ms` of the newest timestamp by the local clock; None without any record."""
    if age_ms is None:
        return warn(_CHECK, "the log is empty", "segments run shards")
    seen = f"the newest log record is {age_ms} ms old by the local clock"
    if age_ms < -AHEAD_MS:
        todo = "synchronize both clocks (NTP): the broker's is ahead"
        return (fail if age_ms < -FAR_MS else warn)(_CHECK, seen, todo)
    if age_ms > tick_ms + BEHIND_MS:
        todo = "start a shards process, or synchronize the broker's clock (NTP): it may be behind"
        return warn(_CHECK, seen, todo)
    return ok(_CHECK, f"{seen}; the tick interval is {tick_ms} ms")
