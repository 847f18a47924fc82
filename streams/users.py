"""users: the state of every account that something was said about.

    users.refreshes ──▶ batches ──▶ fetch, or the given state ──▶ segments.shards  `user` records
                                    │ fails while others succeed ─▶ users.refreshes, at the end
                                    │ for too long ───────────────▶ segments.dlq
                                    └ nobody is answered: nothing is committed, the batch waits

At least once. A `user` record names the refresh it answers; the shard ignores what is older than
what it holds, so repeats and overlaps leave no stale state behind.
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

from segments.kafka.clients import Headers, idempotent_producer, topic_ids
from segments.settings import Settings
from segments.streams import dlq, quix
from segments.streams.lag import Consumption, LagReporter
from segments.streams.refresh.fetcher import BUDGET_S, Fetching
from segments.streams.refresh.refresh_batch import (
    REFRESHES_TOPIC,
    STAGES,
    Message,
    Served,
    Serving,
    Source,
    dead,
)
from segments.streams.refresh.refresh_plan import Pending, RefreshError, RefreshRecord, parse
from segments.streams.refresh.user_service import UserServiceClient
from segments.telemetry import logs, metrics_server

NAME = "users"
SERVE_TIMEOUT_S = BUDGET_S + 10.0
DELIVERY_TIMEOUT_S = 30.0

_log = logs.get(__name__)


class DeliveryError(Exception):
    """Kafka did not take what a batch produced; the batch must be read again."""


class RefreshSink(BatchingSink):
    """Serves the batches of all partitions together, in an event loop of its own."""

    def __init__(self, settings: Settings, topic_id: str) -> None:
        super().__init__(on_client_connect_success=_connected)
        self._settings = settings
        self._source = Source(settings.topic(REFRESHES_TOPIC), topic_id)
        self.consumption = Consumption(NAME, REFRESHES_TOPIC)
        # A rebalance flushes in another thread, which may outlive the wait for it.
        self._flushing = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetches", daemon=True)
        self._producer: Producer
        self._fetching: Fetching | None = None
        self._serving: Serving

    def setup(self) -> None:
        """Start the loop, the connections and the producer."""
        self._producer = idempotent_producer(self._settings)
        self._thread.start()
        self._in_loop(self._open(), SERVE_TIMEOUT_S)

    async def _open(self) -> None:
        settings = self._settings.user_service
        if settings.base_url is not None:
            self._fetching = Fetching(UserServiceClient(settings), settings)
        self._serving = Serving(self._source, settings, self._fetching)

    def flush(self) -> None:
        """Serve what has come since the last commit. SinkBackpressureError: hold it back."""
        with self._flushing:
            batches, self._batches = list(self._batches.values()), {}
            if batches:
                self._flush(batches)

    def write(self, batch: SinkBatch) -> None:
        """Serve one batch; `flush` serves those of all partitions together."""
        self._flush([batch])

    def _flush(self, batches: list[SinkBatch]) -> None:
        refreshes: list[Pending] = []
        dead_letters: list[Message] = []
        for batch in batches:
            self._parse(batch, refreshes, dead_letters)
        served: Served = self._in_loop(self._serving.serve(refreshes), SERVE_TIMEOUT_S)
        if served.hold_back_s is not None:
            # What was fetched goes out at once: it is right, whatever the rest waits for.
            self._deliver(served.messages)
            for batch in batches:
                self.consumption.held_back(batch.partition, min(item.timestamp for item in batch))
            raise SinkBackpressureError(served.hold_back_s)
        self._deliver(served.messages + dead_letters)
        for batch in batches:
            newest = max(item.timestamp for item in batch)
            self.consumption.consumed(batch.partition, newest, batch.size)

    def _parse(
        self, batch: SinkBatch, refreshes: list[Pending], dead_letters: list[Message]
    ) -> None:
        for item in batch:
            headers: Headers = list(item.headers or [])  # type: ignore[arg-type]
            record = RefreshRecord(batch.partition, item.offset, item.key, item.value, headers)
            try:
                refreshes.append(parse(record, self._settings.partitions))
            except RefreshError as error:
                dead_letters.append(
                    dead(self._source.topic, record, "decode", type(error).__name__, str(error))
                )

    def _deliver(self, messages: list[Message]) -> None:
        if not messages:
            return
        errors: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Any) -> None:
            if error is not None:
                errors.append(error)

        for message in messages:
            self._produce(message, delivered)
        undelivered = self._producer.flush(DELIVERY_TIMEOUT_S)
        if errors or undelivered:
            raise DeliveryError(f"{undelivered} records not delivered, errors: {errors[:3]}")

    def _produce(self, message: Message, delivered: Any) -> None:
        topic = self._settings.topic(message.topic)
        arguments = {"headers": message.headers, "on_delivery": delivered}
        try:
            self._producer.produce(topic, message.value, message.key, **arguments)
        except BufferError:
            # The queue is full: wait for some of it to be delivered, once.
            self._producer.flush(DELIVERY_TIMEOUT_S)
            self._producer.produce(topic, message.value, message.key, **arguments)

    def _in_loop(self, work: Coroutine[Any, Any, Any], timeout_s: float) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def close(self) -> None:
        """End the fetches and the loop."""
        if self._thread.is_alive():
            if self._fetching is not None:
                self._in_loop(self._fetching.close(), SERVE_TIMEOUT_S)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(SERVE_TIMEOUT_S)
        self._loop.close()


def _connected() -> None:
    """Nothing to say: the first fetch tells whether the user service answers."""


def build(settings: Settings) -> tuple[Application, RefreshSink]:
    """The application, ready to run, and its sink. KafkaException when its topic is absent."""
    app = quix.application(settings, NAME)
    sink = RefreshSink(settings, topic_ids(settings, [REFRESHES_TOPIC])[REFRESHES_TOPIC])
    quix.sink(app, settings, REFRESHES_TOPIC, sink)
    LagReporter(app, settings, NAME, {REFRESHES_TOPIC: sink.consumption})
    dlq.expect(NAME, STAGES)
    return app, sink


def run(settings: Settings) -> None:
    """Serve refreshes until SIGTERM or SIGINT."""
    logs.configure(settings.log_level, NAME)
    # Holding a batch back is told by us, once; Quix would tell every attempt.
    logging.getLogger("quixstreams.checkpointing.checkpoint").setLevel(logging.ERROR)
    metrics_server.serve(settings, NAME)
    if settings.user_service.base_url is None:
        _log.warning(
            "no user service configured: only states given by hand are served, every other "
            "refresh goes to the dead letter queue",
            setting="user_service.base_url",
        )
    app, sink = build(settings)
    try:
        quix.run(app)
    finally:
        sink.close()
