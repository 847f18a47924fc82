"""Metrics of a process's shards and of the commands they decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from segments.contracts import times
from segments.state.machine.shard import Shard
from segments.telemetry import metrics

_BY_PARTITION = (
    metrics.JOBS,
    metrics.OLDEST_JOB_AGE_SECONDS,
    metrics.TIMERS,
    metrics.PARKED_USERS,
    metrics.KNOWN_USERS,
)


class ShardGauges:
    """`lag_labels`: application and topic, under which the age of the log time is reported."""

    def __init__(self, partitions: int, lag_labels: tuple[str, str]) -> None:
        metrics.PARTITIONS.set(partitions)
        self._lag_labels = lag_labels
        self._reported: set[int] = set()

    def update(self, shards: Iterable[tuple[int, Shard]]) -> None:
        """Update the gauges; `shards` are all that the process owns, by partition."""
        now_ms = times.now_ms()
        reported = set()
        for partition, shard in shards:
            reported.add(partition)
            oldest_ms = shard.oldest_job_at
            age_ms = 0 if oldest_ms is None else now_ms - oldest_ms
            population = shard.population
            values = (
                shard.jobs,
                max(0, age_ms) / 1000,
                len(population.timers),
                population.deferred_users,
                shard.shard["next_ordinal"],
            )
            for gauge, value in zip(_BY_PARTITION, values, strict=True):
                gauge.labels(partition).set(value)
            # Ticks in the log advance its time, so the age of that time is the lag of the shard.
            lag_ms = max(0, now_ms - shard.shard["log_time"])
            metrics.LAG_SECONDS.labels(*self._lag_labels, partition).set(lag_ms / 1000)
        for partition in self._reported - reported:
            for gauge in _BY_PARTITION:
                gauge.remove(partition)
            metrics.LAG_SECONDS.remove(*self._lag_labels, partition)
        self._reported = reported


class CommandCounter:
    """Counts commands by outcome; `report` adds the counts to the metric.

    A dictionary is updated far faster than a labelled metric, so the metric follows at intervals.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, result: dict[str, Any]) -> None:
        """Count the value of a segments.results record by its status or its error's code."""
        error = result["error"]
        self._counts[result["status"] if error is None else error["code"]] += 1

    def report(self) -> None:
        """Add what was counted since the last call to the metric."""
        for outcome, count in self._counts.items():
            metrics.COMMANDS_TOTAL.labels(outcome).inc(count)
        self._counts.clear()
