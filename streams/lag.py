"""Metrics of an application's consumer lag and liveness."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client import Gauge

from segments.settings import Settings
from segments.streams import quix
from segments.telemetry import metrics

_INTERVAL_S = 1.0
# A lag of one record counts as none: it is a transaction's control record, never consumed.
_CONTROL_RECORDS = 1


class Consumption:
    """Record count of one topic, and the age of the newest consumed record per partition."""

    def __init__(self, application: str, topic: str) -> None:
        self._records = metrics.RECORDS.labels(application, topic)
        # By partition: age of the record when it was consumed.
        self._ages_s: dict[int, float] = {}
        self._held_since_ms: dict[int, int] = {}

    def consumed(self, partition: int, timestamp_ms: int, records: int = 1) -> None:
        """Count processed records of a partition; `timestamp_ms`: that of the newest."""
        self._records.inc(records)
        self._ages_s[partition] = time.time() - timestamp_ms / 1000
        self._held_since_ms.pop(partition, None)

    def held_back(self, partition: int, timestamp_ms: int) -> None:
        """Note records that cannot be consumed for now; `timestamp_ms`: that of the oldest."""
        self._held_since_ms[partition] = timestamp_ms

    def age_s(self, partition: int, *, all_consumed: bool) -> float:
        """Age of the newest consumed record, or of the oldest one held back."""
        if (held_since_ms := self._held_since_ms.get(partition)) is not None:
            return time.time() - held_since_ms / 1000
        if all_consumed:
            # Without new records the age at consumption no longer indicates lag.
            return self._ages_s.pop(partition, 0.0)
        return self._ages_s.get(partition, 0.0)

    def forget(self, partition: int) -> None:
        """Drop a revoked partition."""
        self._ages_s.pop(partition, None)
        self._held_since_ms.pop(partition, None)


class _Position(NamedTuple):
    """Next offset of a partition, and the monotonic time of its last advance."""

    offset: int
    since_s: float


class LagReporter:
    """Updates the metrics of assigned partitions and of the producer's queue every second.

    `consumptions`: by topic; None when another component reports the topic's lag in seconds.
    """

    def __init__(
        self,
        app: quix.DirectApplication,
        settings: Settings,
        application: str,
        consumptions: Mapping[str, Consumption | None],
    ) -> None:
        self._app = app
        self._application = application
        self._consumptions = consumptions
        self._names = {settings.topic(name): name for name in consumptions}
        self._reported_at_s = 0.0
        self._positions: dict[tuple[str, int], _Position] = {}
        self._last_loop = metrics.LAST_TURN_TIMESTAMP_SECONDS.labels(application)
        self._queue = metrics.PRODUCER_QUEUE_RECORDS.labels(application)
        limit = metrics.PRODUCER_QUEUE_LIMIT_RECORDS.labels(application)
        limit.set(quix.PRODUCER_QUEUE_MAX_RECORDS)
        quix.every_loop(app, self._every_loop)

    def _every_loop(self) -> None:
        now_s = time.monotonic()
        if now_s - self._reported_at_s < _INTERVAL_S:
            return
        self._reported_at_s = now_s
        self._last_loop.set(time.time())
        self._queue.set(quix.queued(self._app))
        self._report(now_s)

    def _report(self, now_s: float) -> None:
        before, self._positions = self._positions, {}
        for on_cluster, partition in quix.assignment(self._app):
            name = self._names.get(on_cluster)
            if name is None:
                continue
            offset, high = quix.consumer_position(self._app, on_cluster, partition)
            # Unknown before the first record and after a seek back to a record held back.
            lag = max(0, high - offset) if offset >= 0 and high >= 0 else None
            all_consumed = lag is not None and lag <= _CONTROL_RECORDS
            position = before.get((name, partition))
            if position is None or position.offset != offset or lag is None or all_consumed:
                position = _Position(offset, now_s)
            self._positions[name, partition] = position
            if lag is not None:
                self._labels(metrics.LAG_RECORDS, name, partition).set(lag)
            consumption = self._consumptions[name]
            if consumption is not None:
                age_s = consumption.age_s(partition, all_consumed=all_consumed)
                lag_s = max(0.0, age_s, now_s - position.since_s)
                self._labels(metrics.LAG_SECONDS, name, partition).set(lag_s)
        # The new owner reports a revoked partition; dashboards would add up both values.
        for name, partition in before.keys() - self._positions.keys():
            metrics.LAG_RECORDS.remove(self._application, name, partition)
            metrics.LAG_SECONDS.remove(self._application, name, partition)
            if (consumption := self._consumptions[name]) is not None:
                consumption.forget(partition)

    def _labels(self, gauge: Gauge, name: str, partition: int) -> Gauge:
        return gauge.labels(self._application, name, partition)
