"""How far an application is with a topic, as metrics."""

from __future__ import annotations

import time

from prometheus_client import Gauge

from segments import metrics


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
