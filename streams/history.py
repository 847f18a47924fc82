"""history: writes every row of segments.history to the history store, effectively once.

    segments.history ──▶ batches ──▶ history store, with its progress in the same transaction

At least once; the store ignores rows that it has. A malformed row stops the process: only the
shards write this topic, and skipping a row would leave an unnoticed gap in the reports.
"""

from __future__ import annotations

from typing import Any

import orjson
from quixstreams import Application
from quixstreams.sinks.base import BatchingSink, SinkBatch

from segments.contracts.documents import HistoryRow
from segments.contracts.topics import HISTORY_TOPIC
from segments.kafka.clients import topic_ids
from segments.settings import Settings
from segments.state.history.protocol import HistoryWriter, StoredRow
from segments.state.history.sqlite import open_writer
from segments.streams import quix
from segments.streams.lag import Consumption, LagReporter
from segments.telemetry import logs, metrics, metrics_server

NAME = "history"


class HistoryRowError(Exception):
    """A record of segments.history is not a history row."""


class HistorySink(BatchingSink):
    """Writes each batch of a partition in one transaction."""

    def __init__(self, writer: HistoryWriter) -> None:
        super().__init__(on_client_connect_success=_connected)
        self._writer = writer
        self.consumption = Consumption(NAME, HISTORY_TOPIC)

    def write(self, batch: SinkBatch) -> None:
        """Store a batch and the progress of its partition."""
        entries = []
        last: Any = None
        for last in batch:
            entry = decode(batch.partition, last.offset, last.key, last.value)
            if entry is not None:
                entries.append(entry)
        if last is None:
            return
        added = self._writer.append(batch.partition, entries, last.offset + 1)
        metrics.HISTORY_ROWS.inc(added)
        self.consumption.consumed(batch.partition, last.timestamp, batch.size)


def _connected() -> None:
    """Do nothing: the store is opened before the application."""


def decode(partition: int, offset: int, key: bytes | None, value: bytes | None) -> StoredRow | None:
    """The row of a record; None for a control record, whose key begins with `!`.

    HistoryRowError for a malformed record.
    """
    if key is not None and key.startswith(b"!"):
        return None
    try:
        row = HistoryRow.model_validate(orjson.loads(value or b""))
        return StoredRow.from_row(partition, offset, row)
    except ValueError as error:
        raise HistoryRowError(
            f"{HISTORY_TOPIC}:{partition}:{offset} is not a history row; without it the reports "
            f"would be incomplete: {error}"
        ) from error


def build(settings: Settings) -> Application:
    """The application. HistoryError when the store belongs to another topic."""
    app = quix.application(settings, NAME)
    writer = open_writer(settings, topic_ids(settings, [HISTORY_TOPIC])[HISTORY_TOPIC])
    sink = HistorySink(writer)
    quix.sink(app, settings, HISTORY_TOPIC, sink)
    LagReporter(app, settings, NAME, {HISTORY_TOPIC: sink.consumption})
    return app


def run(settings: Settings) -> None:
    """Store history rows until SIGTERM or SIGINT."""
    logs.configure(settings.log_level, NAME)
    metrics_server.serve(settings, NAME)
    quix.run(build(settings))
