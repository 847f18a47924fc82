"""The broker's clock, which is the service's time, against this machine's.

Nothing is written for it. Shards append a tick to their log every second, and the broker stamps
each record of that log with its own clock (LogAppendTime). The newest stamp is compared with the
clock here: where both agree it is no older than a tick and the way here. A stamp from the future
says that the broker's clock is ahead. An old one says that its clock is behind, or that no tick was
written because no shards process runs: that cannot be told apart here, the check of shards can.
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

CHECK = "clock of the broker"
AHEAD_MS = 250
BEHIND_MS = 5_000
FAR_MS = 60_000


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """How far the newest stamp of the log is from now."""
    admin = kafka.client(settings)
    partitions = partitions_of(admin, settings.topic(SHARDS_TOPIC), timeout_s)
    # Before the question: what is appended meanwhile must not look as if it came from the future.
    newest = offsets(admin, partitions, OffsetSpec.max_timestamp(), timeout_s)
    now_ms = times.now_ms()
    stamps = [each.timestamp for each in newest.values() if each.timestamp >= 0]
    yield finding(now_ms - max(stamps) if stamps else None, settings.tick_interval_ms)


def finding(age_ms: int | None, tick_ms: int) -> Finding:
    """`age_ms`: of the newest stamp by the clock here; None without any record."""
    if age_ms is None:
        return warn(CHECK, "the log has no record to compare with", "segments run shards")
    seen = f"the newest record of the log was stamped {age_ms} ms ago by the clock here"
    if age_ms < -AHEAD_MS:
        todo = "bring both clocks into step (NTP): the broker's is ahead"
        return (fail if age_ms < -FAR_MS else warn)(CHECK, seen, todo)
    if age_ms > tick_ms + BEHIND_MS:
        todo = "no shards process runs, or the broker's clock is behind (NTP)"
        return warn(CHECK, seen, todo)
    return ok(CHECK, f"{seen}; ticks come every {tick_ms} ms")
