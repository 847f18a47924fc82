"""What of the sidecar is looked up when somebody scrapes, so that it is never older than that."""

from __future__ import annotations

import asyncio

from prometheus_client import generate_latest

from segments.http.context import Services
from segments.http.write.producer import QUEUE_MAX_RECORDS
from segments.state.history.protocol import HistoryUnavailableError
from segments.state.view.view import staleness_ms
from segments.telemetry import metrics

_APPLICATION = "http"


async def exposed(services: Services, *, ready: bool) -> bytes:
    """All metrics in the text format of Prometheus."""
    _load(services)
    metrics.READY.set(ready)
    for partition, marker in list(services.view.progress.items()):
        staleness_s = staleness_ms(marker) / 1000
        metrics.VIEW_STALENESS_SECONDS.labels(partition).set(staleness_s)
    await _history(services)
    # Thousands of lines, in milliseconds that no request has to wait for.
    return await asyncio.to_thread(generate_latest)


def _load(services: Services) -> None:
    http = services.settings.http
    metrics.HTTP_WAITERS.set(services.waiting.count)
    metrics.HTTP_WAITERS_LIMIT.set(http.max_waiters)
    metrics.HTTP_STREAMS.set(services.streams.running)
    metrics.HTTP_STREAMS_LIMIT.set(http.max_streams)
    metrics.PRODUCER_QUEUE_RECORDS.labels(_APPLICATION).set(services.writer.queued)
    metrics.PRODUCER_QUEUE_LIMIT_RECORDS.labels(_APPLICATION).set(QUEUE_MAX_RECORDS)


async def _history(services: Services) -> None:
    try:
        stored = await services.history.progress()
    except HistoryUnavailableError:
        # How far it is behind is not known: `segments_ready` says that it cannot be read.
        metrics.HISTORY_BEHIND_SECONDS.clear()
        return
    for partition in services.kept_partitions():
        behind_ms = services.completeness.behind_ms(stored, partition)
        if behind_ms is not None:
            metrics.HISTORY_BEHIND_SECONDS.labels(partition).set(behind_ms / 1000)
