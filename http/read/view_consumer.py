"""Kafka consumer that builds the view, in one thread, from the offsets stored with the view."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from segments.contracts.topics import DEFINITIONS_TOPIC, RESULTS_TOPIC, USERS_TOPIC
from segments.kafka.clients import FETCH_WAIT_MS, REQUEST_TIMEOUT_S
from segments.settings import Settings
from segments.state.rocksdb import is_damage
from segments.state.view.view import View
from segments.state.view.writer import ViewBatch
from segments.telemetry import logs, metrics

TOPICS = (USERS_TOPIC, DEFINITIONS_TOPIC, RESULTS_TOPIC)
# RocksDB holds the GIL while it writes a batch, about a millisecond: requests wait for that long.
BATCH_RECORDS = 128
_POLL_S = 0.5
_JOIN_S = 20.0
_EXPIRY_INTERVAL_S = 1.0
_EXPIRED_MIN = 2_000
# A partition that cannot be continued from its stored offset: the view must be rebuilt.
_OFFSET_LOST = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)  # noqa: SLF001

log = logs.get(__name__)

ProgressListener = Callable[[list[int], Mapping[str, bytes]], None]
"""Called in the event loop with (partitions that advanced, results by command id)."""


class ViewConsumerError(RuntimeError):
    """The view cannot be continued; the next start rebuilds it."""


class ViewConsumer:
    """Consumes until `close`. The future `failed` gets the exception if it stops before that."""

    def __init__(self, settings: Settings, view: View, on_progress: ProgressListener) -> None:
        self._settings = settings
        self._view = view
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._expired_below: bytes | None = None
        self._results_consumed = 0
        self._names = {settings.topic(name): name for name in TOPICS}
        self._behind: set[tuple[str, int]] | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="view", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; blocks until it has stopped."""
        self._stopping.set()
        self._thread.join(_JOIN_S)

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def caught_up(self) -> bool:
        """Whether every partition has been read to its end at least once since startup."""
        return self.alive and self._behind is not None and not self._behind

    def _run(self) -> None:
        try:
            self._consume()
        except Exception as error:
            log.exception("view_consumer_failed")
            if isinstance(error, ViewConsumerError) or is_damage(error):
                self._view.require_rebuild()
            self._loop.call_soon_threadsafe(self._fail, error)

    def report_damage(self, error: Exception) -> None:
        """Fail because a reader found the view damaged; the next start rebuilds it."""
        self._view.require_rebuild()
        self._fail(error)

    def _fail(self, error: Exception) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    def _consume(self) -> None:
        consumer = Consumer(
            self._settings.client_config()
            | {
                "group.id": self._settings.group("http"),
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": FETCH_WAIT_MS,
                "fetch.queue.backoff.ms": 10,
                "queued.max.messages.kbytes": 32_768,
            }
        )
        expire_at_s = time.monotonic() + _EXPIRY_INTERVAL_S
        try:
            start = self._start_offsets(consumer)
            self._behind = {(self._names[tp.topic], tp.partition) for tp in start}
            consumer.assign(start)
            while not self._stopping.is_set():
                first = consumer.poll(_POLL_S)
                if first is not None:
                    self._apply([first, *consumer.consume(BATCH_RECORDS, timeout=0)])
                if time.monotonic() >= expire_at_s:
                    self._expire_results()
                    expire_at_s = time.monotonic() + _EXPIRY_INTERVAL_S
        finally:
            consumer.close()

    def _start_offsets(self, consumer: Consumer) -> list[TopicPartition]:
        stored = self._view.offsets()
        kept = self._settings.http.partitions
        start = []
        for on_cluster, name in self._names.items():
            for partition in range(self._settings.partitions):
                if name == USERS_TOPIC and kept is not None and partition not in kept:
                    continue
                offset = stored.get((name, partition), OFFSET_BEGINNING)
                tp = TopicPartition(on_cluster, partition, offset)
                start.append(self._skip_expired(consumer, tp) if name == RESULTS_TOPIC else tp)
        return start

    def _skip_expired(self, consumer: Consumer, stored: TopicPartition) -> TopicPartition:
        """Where to continue with results: those past their retention need not be read."""
        low, high = consumer.get_watermark_offsets(stored, timeout=REQUEST_TIMEOUT_S)
        if stored.offset >= low:
            return stored
        oldest = TopicPartition(stored.topic, stored.partition, self._oldest_result_ms())
        [found] = consumer.offsets_for_times([oldest], timeout=REQUEST_TIMEOUT_S)
        offset = found.offset if found.offset >= 0 else high
        return TopicPartition(stored.topic, stored.partition, offset)

    def _oldest_result_ms(self) -> int:
        return int((time.time() - self._settings.http.result_retention_s) * 1000)

    def _apply(self, messages: list[Message]) -> None:
        batch = ViewBatch(self._view)
        counts = dict.fromkeys(TOPICS, 0)
        for message in messages:
            if (error := message.error()) is not None:
                self._handle_error(error, message)
                continue
            name = self._names[message.topic()]
            counts[name] += 1
            _add(batch, name, message)
        if any(counts.values()):
            batch.write()
            self._results_consumed += counts[RESULTS_TOPIC]
            self._loop.call_soon_threadsafe(self._on_progress, batch.advanced, batch.results)
        for name, count in counts.items():
            if count:
                metrics.VIEW_RECORDS.labels(name).inc(count)
        self._mark_if_complete()

    def _handle_error(self, error: KafkaError, message: Message) -> None:
        code = error.code()
        if code == KafkaError._PARTITION_EOF:  # noqa: SLF001 - the documented name
            assert self._behind is not None, "the partitions were assigned"
            self._behind.discard((self._names[message.topic()], message.partition()))
        elif code in _OFFSET_LOST:
            raise ViewConsumerError(f"the topics no longer have the stored offsets: {error.str()}")
        elif error.fatal():
            raise KafkaException(error)
        else:
            log.warning("view_consumer_error", error=error.str())

    def _mark_if_complete(self) -> None:
        if not self._behind and not self._view.complete:
            self._view.mark_complete()
            log.info("view_complete", users_topic=self._settings.topic(USERS_TOPIC))

    def _expire_results(self) -> None:
        """Delete results past their retention, a limited number at a time."""
        # At least as fast as results arrive, or they would accumulate without limit.
        limit = max(_EXPIRED_MIN, 2 * self._results_consumed)
        self._results_consumed = 0
        old = self._view.old_results(self._oldest_result_ms(), limit, self._expired_below)
        if old:
            batch = ViewBatch(self._view)
            for age_key in old:
                batch.forget_result(age_key)
            batch.write()
            self._expired_below = old[-1]


def _add(batch: ViewBatch, name: str, message: Any) -> None:
    key, value = message.key(), message.value()
    if key is not None:
        if name == USERS_TOPIC:
            batch.user(key, value)
        elif name == DEFINITIONS_TOPIC:
            batch.definition(key, value)
        else:
            batch.result(key, value, message.timestamp()[1])
    batch.consumed(name, message.partition(), message.offset() + 1)
