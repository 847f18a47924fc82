"""Gauges that are set when metrics are scraped, so that they are current."""

from __future__ import annotations

import asyncio

from prometheus_client import generate_latest

from segments.http.context import Services
from segments.http.write.producer import COMMAND_QUEUE_MAX_RECORDS
from segments.state.history.protocol import HistoryUnavailableError
from segments.state.view.view import staleness_ms
from segments.telemetry import metrics

_APPLICATION = "http"


async def render_metrics(services: Services, *, ready: bool) -> bytes:
    """All metrics in the text format of Prometheus."""
    _set_load(services)
    metrics.READY.set(ready)
    for partition, marker in list(services.view.progress.items()):
        staleness_s = staleness_ms(marker) / 1000
        metrics.VIEW_STALENESS_SECONDS.labels(partition).set(staleness_s)
    await _set_history_lag(services)
    # Rendering thousands of lines takes milliseconds: not in the event loop.
    return await asyncio.to_thread(generate_latest)


def _set_load(services: Services) -> None:
    http = services.settings.http
    metrics.HTTP_WAITERS.set(services.waiters.count)
    metrics.HTTP_WAITERS_LIMIT.set(http.max_waiters)
    metrics.HTTP_STREAMS.set(services.streams.running)
    metrics.HTTP_STREAMS_LIMIT.set(http.max_streams)
    metrics.PRODUCER_QUEUE_RECORDS.labels(_APPLICATION).set(services.producer.queued)
    metrics.PRODUCER_QUEUE_LIMIT_RECORDS.labels(_APPLICATION).set(COMMAND_QUEUE_MAX_RECORDS)


async def _set_history_lag(services: Services) -> None:
    try:
        stored = await services.history.progress()
    except HistoryUnavailableError:
        # The lag is unknown; `segments_ready` reports that the store cannot be read.
        metrics.HISTORY_BEHIND_SECONDS.clear()
        return
    for partition in services.served_partitions():
        lag_ms = services.watermark.lag_ms(stored, partition)
        if lag_ms is not None:
            metrics.HISTORY_BEHIND_SECONDS.labels(partition).set(lag_ms / 1000)
