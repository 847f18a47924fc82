"""What the shards of a process have to do, as metrics; of those it has no longer, nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from segments.contracts import times
from segments.state.machine.shard import Shard
from segments.telemetry import metrics

_STATUS = b'"status":"'
_CODE = b'"code":"'
_REJECTED = b"rejected"
_BY_PARTITION = (
    metrics.JOBS,
    metrics.OLDEST_JOB_AGE_SECONDS,
    metrics.TIMERS,
    metrics.PARKED_USERS,
    metrics.KNOWN_USERS,
)


class ShardGauges:
    """`lag_labels`: application and topic, under which the age of the log time is told."""

    def __init__(self, partitions: int, lag_labels: tuple[str, str]) -> None:
        metrics.PARTITIONS.set(partitions)
        self._lag_labels = lag_labels
        self._told: set[int] = set()

    def tell(self, shards: Iterable[tuple[int, Shard]]) -> None:
        """Tell of these shards, by partition: they are all that the process has."""
        now_ms = times.now_ms()
        told = set()
        for partition, shard in shards:
            told.add(partition)
            oldest_ms = shard.oldest_job_at
            age_ms = 0 if oldest_ms is None else now_ms - oldest_ms
            population = shard.population
            values = (
                shard.jobs,
                max(0, age_ms) / 1000,
                len(population.timers),
                population.parked_users,
                shard.shard["next_ordinal"],
            )
            for gauge, value in zip(_BY_PARTITION, values, strict=True):
                gauge.labels(partition).set(value)
            # Time comes with the log itself, by ticks: its age is how far the shard is behind.
            lag_ms = max(0, now_ms - shard.shard["log_time"])
            metrics.LAG_SECONDS.labels(*self._lag_labels, partition).set(lag_ms / 1000)
        for partition in self._told - told:
            for gauge in _BY_PARTITION:
                gauge.remove(partition)
            metrics.LAG_SECONDS.remove(*self._lag_labels, partition)
        self._told = told


class Outcomes:
    """Counts results as bytes, and tells the metric now and then: both are cheap."""

    def __init__(self) -> None:
        self._counts: Counter[bytes] = Counter()

    def count(self, result: bytes) -> None:
        """A record of segments.results, as it is produced."""
        # Neither word can stand in a string of the result: its quotes would be escaped there.
        outcome = _word(result, _STATUS)
        self._counts[_word(result, _CODE) if outcome == _REJECTED else outcome] += 1

    def report(self) -> None:
        """Add what was counted since the last time."""
        for outcome, count in self._counts.items():
            metrics.COMMANDS_TOTAL.labels(outcome.decode()).inc(count)
        self._counts.clear()


def _word(result: bytes, before: bytes) -> bytes:
    start = result.index(before) + len(before)
    return result[start : result.index(b'"', start)]
