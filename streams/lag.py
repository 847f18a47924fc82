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
# One that is left is none: the mark of a transaction, which nobody consumes.
_MARKS = 1


class Consumption:
    """Counts the records of one topic and knows how old the newest consumed one was."""

    def __init__(self, application: str, topic: str) -> None:
        self._records = metrics.RECORDS.labels(application, topic)
        # By partition, as it was when the record was consumed.
        self._ages_s: dict[int, float] = {}
        self._held_since_ms: dict[int, int] = {}

    def consumed(self, partition: int, timestamp_ms: int, records: int = 1) -> None:
        """`records` of a partition were processed, the newest of them stamped `timestamp_ms`."""
        self._records.inc(records)
        self._ages_s[partition] = time.time() - timestamp_ms / 1000
        self._held_since_ms.pop(partition, None)

    def held_back(self, partition: int, timestamp_ms: int) -> None:
        """Records of a partition, the oldest stamped `timestamp_ms`, cannot be consumed now."""
        self._held_since_ms[partition] = timestamp_ms

    def age_s(self, partition: int, *, all_consumed: bool) -> float:
        """How old what is consumed, or held back, is."""
        if (held_since_ms := self._held_since_ms.get(partition)) is not None:
            return time.time() - held_since_ms / 1000
        if all_consumed:
            # From now on the age of what was consumed says nothing any more.
            return self._ages_s.pop(partition, 0.0)
        return self._ages_s.get(partition, 0.0)

    def forget(self, partition: int) -> None:
        """Another process has the partition."""
        self._ages_s.pop(partition, None)
        self._held_since_ms.pop(partition, None)


class _Place(NamedTuple):
    """The next offset of a partition, and since when (monotonic) it has been that."""

    offset: int
    since_s: float


class LagReporter:
    """Updates the metrics of assigned partitions and of the producer's queue every second.

    `consumptions`: by topic; None when another part reports the topic's age.
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
        self._places: dict[tuple[str, int], _Place] = {}
        self._last_turn = metrics.LAST_TURN_TIMESTAMP_SECONDS.labels(application)
        self._queue = metrics.PRODUCER_QUEUE_RECORDS.labels(application)
        limit = metrics.PRODUCER_QUEUE_LIMIT_RECORDS.labels(application)
        limit.set(quix.PRODUCER_QUEUE_MAX_RECORDS)
        quix.every_loop(app, self._every_loop)

    def _every_loop(self) -> None:
        now_s = time.monotonic()
        if now_s - self._reported_at_s < _INTERVAL_S:
            return
        self._reported_at_s = now_s
        self._last_turn.set(time.time())
        self._queue.set(quix.queued(self._app))
        self._report(now_s)

    def _report(self, now_s: float) -> None:
        before, self._places = self._places, {}
        for on_cluster, partition in quix.assignment(self._app):
            name = self._names.get(on_cluster)
            if name is None:
                continue
            offset, high = quix.consumer_position(self._app, on_cluster, partition)
            # Not known before the first record, and after going back to one that was held back.
            left = max(0, high - offset) if offset >= 0 and high >= 0 else None
            place = before.get((name, partition))
            if place is None or place.offset != offset or left is None or left <= _MARKS:
                place = _Place(offset, now_s)
            self._places[name, partition] = place
            if left is not None:
                self._labels(metrics.LAG_RECORDS, name, partition).set(left)
            consumption = self._consumptions[name]
            if consumption is not None:
                all_consumed = left is not None and left <= _MARKS
                age_s = consumption.age_s(partition, all_consumed=all_consumed)
                lag_s = max(0.0, age_s, now_s - place.since_s)
                self._labels(metrics.LAG_SECONDS, name, partition).set(lag_s)
        # The new owner reports a revoked partition; two reports would be summed up.
        for name, partition in before.keys() - self._places.keys():
            metrics.LAG_RECORDS.remove(self._application, name, partition)
            metrics.LAG_SECONDS.remove(self._application, name, partition)
            if (consumption := self._consumptions[name]) is not None:
                consumption.forget(partition)

    def _labels(self, gauge: Gauge, name: str, partition: int) -> Gauge:
        return gauge.labels(self._application, name, partition)
