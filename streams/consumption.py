"""How far an application is with a topic, as metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import Gauge
from quixstreams import Application

from segments import metrics
from segments.settings import Settings
from segments.streams import quix

_LAG_INTERVAL_S = 1.0


class Consumption:
    """Counts the records of one topic and tells how old the newest consumed one is."""

    def __init__(self, application: str, topic: str) -> None:
        self._application = application
        self._topic = topic
        self._records = metrics.RECORDS.labels(application, topic)
        self._ages: dict[int, Gauge] = {}

    def consumed(self, partition: int, timestamp_ms: int, records: int = 1) -> None:
        """`records` of a partition were processed, the newest of them stamped `timestamp_ms`."""
        self._records.inc(records)
        age = self._ages.get(partition)
        if age is None:
            age = metrics.LAG_SECONDS.labels(self._application, self._topic, partition)
            self._ages[partition] = age
        age.set(max(0.0, time.time() - timestamp_ms / 1000))


class LagWatch:
    """Tells, about once a second, how many records are left in the partitions that are read."""

    def __init__(
        self, app: Application, settings: Settings, application: str, topics: Iterable[str]
    ) -> None:
        self._app = app
        self._application = application
        self._names = {settings.topic(name): name for name in topics}
        self._told_at_s = 0.0
        self._told: set[tuple[str, str]] = set()
        quix.every_loop(app, self._tell)

    def _tell(self) -> None:
        now_s = time.monotonic()
        if now_s - self._told_at_s < _LAG_INTERVAL_S:
            return
        self._told_at_s = now_s
        told = set()
        for on_cluster, partition in quix.assignment(self._app):
            name = self._names.get(on_cluster)
            if name is None:
                continue
            offset, high = quix.consumer_position(self._app, on_cluster, partition)
            if offset >= 0 and high >= 0:
                told.add((name, str(partition)))
                gauge = metrics.LAG_RECORDS.labels(self._application, name, partition)
                gauge.set(max(0, high - offset))
        # Whoever has a partition now tells of it; two that do would be summed up.
        for labels in self._told - told:
            metrics.LAG_RECORDS.remove(self._application, *labels)
        self._told = told
