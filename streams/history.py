"""history: every row of segments.history into the store, exactly once in effect.

    segments.history ──▶ batches ──▶ history store, with its progress in the same transaction

At least once; the store leaves out what it has. A row that cannot be read ends the process: only
our own shards write this topic, and going on would leave a gap in the reports that nobody sees.
"""

from __future__ import annotations

from typing import Any

import orjson
from quixstreams import Application
from quixstreams.sinks.base import BatchingSink, SinkBatch

from segments.contracts.documents import HistoryRow
from segments.contracts.names import canonical_user_id
from segments.contracts.times import from_rfc3339
from segments.kafka.clients import topic_ids
from segments.settings import Settings
from segments.state.history.protocol import HistoryEntry, HistoryWriter
from segments.state.history.sqlite import open_writer
from segments.streams import quix
from segments.streams.lag import Consumption, LagReporter
from segments.telemetry import logs, metrics, metrics_server

NAME = "history"
SOURCE = "segments.history"


class HistoryRowError(Exception):
    """A record of segments.history is no history row."""


class HistorySink(BatchingSink):
    """Writes each batch of a partition in one transaction."""

    def __init__(self, writer: HistoryWriter) -> None:
        super().__init__(on_client_connect_success=_connected)
        self._writer = writer
        self.consumption = Consumption(NAME, SOURCE)

    def write(self, batch: SinkBatch) -> None:
        """Store a batch and how far the partition has come."""
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
    """The store was opened before the application; nothing is left to be said."""


def decode(
    partition: int, offset: int, key: bytes | None, value: bytes | None
) -> HistoryEntry | None:
    """The row of a record; None for a record about the topic itself (its key begins with `!`).

    HistoryRowError when it is no row.
    """
    if key is not None and key.startswith(b"!"):
        return None
    try:
        row = HistoryRow.model_validate(orjson.loads(value or b""))
        return HistoryEntry(
            partition=partition,
            offset=offset,
            at_ms=from_rfc3339(row.at),
            user_id=canonical_user_id(row.user_id),
            segment=row.segment,
            generation=row.generation,
            operation=row.operation,
            cause=row.cause,
            command_id=row.command_id,
            actor=row.actor,
            expires_at_ms=None if row.expires_at is None else from_rfc3339(row.expires_at),
        )
    except ValueError as error:
        raise HistoryRowError(
            f"{SOURCE}:{partition}:{offset} is no history row, and the reports would miss it: "
            f"{error}"
        ) from error


def build(settings: Settings) -> Application:
    """The application, ready to run. HistoryError when the store belongs to another topic."""
    app = quix.application(settings, NAME)
    writer = open_writer(settings, topic_ids(settings, [SOURCE])[SOURCE])
    sink = HistorySink(writer)
    quix.sink(app, settings, SOURCE, sink)
    LagReporter(app, settings, NAME, {SOURCE: sink.consumption})
    return app


def run(settings: Settings) -> None:
    """Store until SIGTERM or SIGINT."""
    logs.configure(settings.log_level, NAME)
    metrics_server.serve(settings, NAME)
    quix.run(build(settings))
