"""users: refreshes the account state of users.

    users.refreshes ──▶ batches ──▶ fetch, or a supplied state ─▶ segments.shards  `user` records
                                    │ fails while others succeed ─▶ users.refreshes, retried later
                                    │ for too long ───────────────▶ segments.dlq
                                    └ no fetch succeeds: nothing is committed, the batch is retried

At least once. A `user` record contains the position of its refresh; a shard ignores records older
than its state, so repetitions and overlaps leave no stale state behind.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine
from typing import Any

from confluent_kafka import KafkaError, Producer
from quixstreams import Application
from quixstreams.sinks.base import BatchingSink, SinkBackpressureError, SinkBatch

from segments.contracts.topics import REFRESHES_TOPIC
from segments.kafka.clients import RecordHeaders, idempotent_producer, topic_ids
from segments.settings import Settings
from segments.streams import dlq, quix
from segments.streams.lag import Consumption, LagReporter
from segments.streams.refresh.fetcher import BUDGET_S, Fetcher
from segments.streams.refresh.refresh_batch import (
    REFRESH_STAGES,
    BatchProcessor,
    BatchResult,
    OutgoingRecord,
    RefreshSource,
    dead_letter,
)
from segments.streams.refresh.refresh_plan import PendingRefresh, RefreshError, RefreshRecord, parse
from segments.streams.refresh.user_service import UserServiceClient
from segments.telemetry import logs, metrics_server

NAME = "users"
PROCESS_TIMEOUT_S = BUDGET_S + 10.0
FLUSH_TIMEOUT_S = 30.0

_log = logs.get(__name__)


class DeliveryError(Exception):
    """Records of a batch were not delivered; the batch must be consumed again."""


class RefreshSink(BatchingSink):
    """Processes the batches of all partitions together, in an event loop of its own."""

    def __init__(self, settings: Settings, topic_id: str) -> None:
        super().__init__(on_client_connect_success=_connected)
        self._settings = settings
        self._source = RefreshSource(settings.topic(REFRESHES_TOPIC), topic_id)
        self.consumption = Consumption(NAME, REFRESHES_TOPIC)
        # A rebalance flushes in another thread, which may still run when the next flush begins.
        self._flushing = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetches", daemon=True)
        self._producer: Producer
        self._fetcher: Fetcher | None = None
        self._processor: BatchProcessor

    def setup(self) -> None:
        """Start the loop, the connections and the producer."""
        self._producer = idempotent_producer(self._settings)
        self._thread.start()
        self._in_loop(self._open(), PROCESS_TIMEOUT_S)

    async def _open(self) -> None:
        settings = self._settings.user_service
        if settings.base_url is not None:
            self._fetcher = Fetcher(UserServiceClient(settings), settings)
        self._processor = BatchProcessor(self._source, settings, self._fetcher)

    def flush(self) -> None:
        """Process the records since the last commit. SinkBackpressureError: retry them later."""
        with self._flushing:
            batches, self._batches = list(self._batches.values()), {}
            if batches:
                self._flush(batches)

    def write(self, batch: SinkBatch) -> None:
        """Process one batch; `flush` processes those of all partitions together."""
        self._flush([batch])

    def _flush(self, batches: list[SinkBatch]) -> None:
        refreshes: list[PendingRefresh] = []
        dead_letters: list[OutgoingRecord] = []
        for batch in batches:
            self._parse(batch, refreshes, dead_letters)
        result: BatchResult = self._in_loop(self._processor.process(refreshes), PROCESS_TIMEOUT_S)
        if result.hold_back_s is not None:
            # Fetched states are valid whatever happens to the rest: they are produced at once.
            self._deliver(result.records)
            for batch in batches:
                self.consumption.held_back(batch.partition, min(item.timestamp for item in batch))
            raise SinkBackpressureError(result.hold_back_s)
        self._deliver(result.records + dead_letters)
        for batch in batches:
            newest = max(item.timestamp for item in batch)
            self.consumption.consumed(batch.partition, newest, batch.size)

    def _parse(
        self, batch: SinkBatch, refreshes: list[PendingRefresh], dead_letters: list[OutgoingRecord]
    ) -> None:
        for item in batch:
            headers: RecordHeaders = list(item.headers or [])  # type: ignore[arg-type]
            record = RefreshRecord(batch.partition, item.offset, item.key, item.value, headers)
            try:
                refreshes.append(parse(record, self._settings.partitions))
            except RefreshError as error:
                dead_letters.append(
                    dead_letter(
                        self._source.topic, record, "decode", type(error).__name__, str(error)
                    )
                )

    def _deliver(self, records: list[OutgoingRecord]) -> None:
        if not records:
            return
        errors: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Any) -> None:
            if error is not None:
                errors.append(error)

        for message in records:
            self._produce(message, delivered)
        undelivered = self._producer.flush(FLUSH_TIMEOUT_S)
        if errors or undelivered:
            raise DeliveryError(f"{undelivered} records not delivered, errors: {errors[:3]}")

    def _produce(self, message: OutgoingRecord, delivered: Any) -> None:
        topic = self._settings.topic(message.topic)
        arguments = {"headers": message.headers, "on_delivery": delivered}
        try:
            self._producer.produce(topic, message.value, message.key, **arguments)
        except BufferError:
            # The queue is full: wait for some of it to be delivered, once.
            self._producer.flush(FLUSH_TIMEOUT_S)
            self._producer.produce(topic, message.value, message.key, **arguments)

    def _in_loop(self, work: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        """End the fetches and the loop."""
        if self._thread.is_alive():
            if self._fetcher is not None:
                self._in_loop(self._fetcher.close(), PROCESS_TIMEOUT_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(PROCESS_TIMEOUT_S)
        self._loop.close()


def _connected() -> None:
    """Do nothing: the first fetch shows whether the user service responds."""


def build(settings: Settings) -> tuple[Application, RefreshSink]:
    """The application and its sink. KafkaException when its topic does not exist."""
    app = quix.application(settings, NAME)
    sink = RefreshSink(settings, topic_ids(settings, [REFRESHES_TOPIC])[REFRESHES_TOPIC])
    quix.sink(app, settings, REFRESHES_TOPIC, sink)
    LagReporter(app, settings, NAME, {REFRESHES_TOPIC: sink.consumption})
    dlq.init_counters(NAME, REFRESH_STAGES)
    return app, sink


def run(settings: Settings) -> None:
    """Process refreshes until SIGTERM or SIGINT."""
    logs.configure(settings.log_level, NAME)
    # Quix would log every attempt of a batch that is held back; we log the first.
    logging.getLogger("quixstreams.checkpointing.checkpoint").setLevel(logging.ERROR)
    metrics_server.serve(settings, NAME)
    if settings.user_service.base_url is None:
        _log.warning(
            "user_service_not_configured",
            hint="set user_service.base_url: refreshes without a state go to the dead letter queue",
        )
    app, sink = build(settings)
    try:
        quix.run(app)
    finally:
        sink.close()
