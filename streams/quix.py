"""The boundary to Quix Streams: its public interface and the private parts in use.

All uses of the library's private names are in this module and, for the custom state store, in
`quix_store`. `tests/integration/streams` tests both against a real broker, to notice when a new
version of the library breaks them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from quixstreams import Application
from quixstreams.processing import ProcessingContext
from quixstreams.sinks.base import BatchingSink

from segments.kafka.clients import FETCH_WAIT_MS, GAPLESS, REQUEST_TIMEOUT_S, Record, RecordHeaders
from segments.settings import Settings
from segments.telemetry import logs, metrics

SESSION_TIMEOUT_MS = 10_000
TRANSACTION_TIMEOUT_MS = 10_000
# Twice the output of the fastest shard in 50 ms; a full queue makes processing wait for delivery.
PRODUCER_QUEUE_MAX_RECORDS = 200_000
# One second of input of the fastest application.
_PREFETCHED_KIB = 16 * 1024
# Records processed before checking the checkpoint's age and running the periodic tasks.
_RECORDS_PER_LOOP = 50

log = logs.get(__name__)


RecordHandler = Callable[[Record], None]


class DirectApplication(Application):
    """A Quix application that passes records to handlers instead of its dataframe.

    The dataframe's rows, contexts and serializers take longer than most of our handlers. Polling
    (with rebalances and recovery), offsets and checkpoints remain the library's.

    An empty checkpoint stays open instead of being replaced every interval: the first record after
    an idle period finds it expired and is committed at once, not an interval later. Therefore
    outputs produced outside a record handler must change state, or they wait for the next change.
    """

    def __init__(self, name: str, **options: Any) -> None:
        super().__init__(**options)
        self._handlers: dict[str, RecordHandler] = {}
        self._checkpoint_seconds = metrics.CHECKPOINT_SECONDS.labels(name)
        self._processing_context.commit_checkpoint = self._commit_checkpoint  # type: ignore[method-assign]

    def handle(self, topic_on_cluster: str, handler: RecordHandler) -> None:
        """Call `handler` for each record of a topic, instead of the topic's dataframe."""
        self._handlers[topic_on_cluster] = handler

    def _commit_checkpoint(self, force: bool = False, revoking: bool = False) -> None:  # noqa: FBT001, FBT002 - Quix's signature
        context = self._processing_context
        checkpoint = context.checkpoint
        empty = checkpoint.empty()
        if empty and self._handlers and not force:
            return
        started_s = time.perf_counter()
        ProcessingContext.commit_checkpoint(context, force, revoking)
        if context.checkpoint is not checkpoint and not empty:
            self._checkpoint_seconds.observe(time.perf_counter() - started_s)

    def _process_message(self, dataframe_composed: Any) -> None:
        if not self._handlers:
            super()._process_message(dataframe_composed)  # type: ignore[no-untyped-call]
            return
        self._producer.poll(0)
        consumer, state_manager = self._consumer, self._state_manager
        timeout_s = self._config.consumer_poll_timeout
        for _ in range(_RECORDS_PER_LOOP):
            message = consumer._poll_unbuffered(timeout_s)  # noqa: SLF001
            if message is None:
                return
            self._handle(message)
            # A rebalance during the poll may have started a recovery, which takes precedence.
            if state_manager.recovery_required or not self._run_tracker.running:
                return
            timeout_s = 0.0

    def _handle(self, message: Any) -> None:
        topic, partition, offset = message.topic(), message.partition(), message.offset()
        record = Record(
            topic,
            partition,
            offset,
            message.timestamp()[1],
            message.key(),
            message.value(),
            message.headers() or [],
        )
        try:
            self._handlers[topic](record)
        except Exception:
            log.exception("record_not_processed", topic=topic, partition=partition, offset=offset)
            raise
        self._processing_context.store_offset(topic, partition, offset)
        self._producer._broker_available()  # type: ignore[no-untyped-call]  # noqa: SLF001
        self._consumer._broker_available()  # type: ignore[no-untyped-call]  # noqa: SLF001


def application(settings: Settings, name: str, *, exactly_once: bool = False) -> DirectApplication:
    """A Quix application of this deployment: `router`, `users`, `shards` or `history`.

    At least once: a gapless idempotent producer; a record it cannot deliver in order ends the
    process. Exactly once: one transaction per checkpoint.
    """
    group = settings.group(name)
    instance = f"{group}-{settings.instance}"
    client = settings.client_config()
    bootstrap_servers = client.pop("bootstrap.servers")
    producer: dict[str, Any] = client | {
        "linger.ms": 2,
        "compression.type": "lz4",
        "message.max.bytes": settings.kafka.message_max_bytes,
        "queue.buffering.max.messages": PRODUCER_QUEUE_MAX_RECORDS,
    }
    if exactly_once:
        producer |= {
            "transactional.id": instance,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
        }
    else:
        producer |= GAPLESS
    return DirectApplication(
        name,
        broker_address=bootstrap_servers,
        consumer_group=group,
        auto_offset_reset="earliest",
        commit_interval=settings.commit_interval_ms / 1000,
        consumer_poll_timeout=settings.poll_timeout_ms / 1000,
        processing_guarantee="exactly-once" if exactly_once else "at-least-once",
        auto_create_topics=False,
        auto_recover_from_source_offset_out_of_range=False,
        state_dir=settings.data_dir / f"{name}-{settings.instance}",
        loglevel=None,
        consumer_extra_config=client
        | {
            # A restart within the session timeout gets its partitions back without a rebalance.
            "group.instance.id": instance,
            "session.timeout.ms": SESSION_TIMEOUT_MS,
            "isolation.level": "read_committed",
            "fetch.wait.max.ms": FETCH_WAIT_MS,
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": _PREFETCHED_KIB,
        },
        producer_extra_config=producer,
    )


def consume(
    app: DirectApplication, settings: Settings, topic_name: str, handler: RecordHandler
) -> None:
    """Call `handler` for every record of a topic, inside the checkpoint."""
    app.dataframe(bytes_topic(app, settings, topic_name))
    app.handle(settings.topic(topic_name), handler)


def sink(app: Application, settings: Settings, topic_name: str, target: BatchingSink) -> None:
    """Pass every record of a topic to a batching sink, flushed before each commit."""
    app.dataframe(bytes_topic(app, settings, topic_name)).sink(target)


def bytes_topic(app: Application, settings: Settings, topic_name: str) -> Any:
    """A topic with keys and values as raw bytes."""
    return app.topic(
        settings.topic(topic_name), value_deserializer="bytes", key_deserializer="bytes"
    )


def produce(
    app: Application,
    topic_on_cluster: str,
    *,
    key: bytes | str | None,
    value: bytes | None,
    headers: RecordHeaders | None = None,
    partition: int | None = None,
) -> None:
    """Produce with the application's producer: delivered before the offsets are committed."""
    app._processing_context.producer.produce(  # noqa: SLF001
        topic=topic_on_cluster, key=key, value=value, headers=headers, partition=partition
    )


def run(app: Application) -> None:
    """Process until SIGTERM or SIGINT; an exception ends the process without a commit."""
    app.run()


def every_loop(app: Application, task: Callable[[], None]) -> None:
    """Run a short task in every iteration of the processing loop, except during recovery."""
    app._dataframe_registry.register_periodic_task(task)  # noqa: SLF001


def transactional_output(app: Application) -> Callable[..., None]:
    """A fast `produce(topic, value, key, …)` into the open transaction.

    It needs no delivery callback: librdkafka fails the whole transaction when one of its records
    cannot be delivered, so the commit reports it.
    """
    wrapper = app._producer._producer  # noqa: SLF001

    def produce_raw(topic: str, value: bytes, key: str, **options: Any) -> None:
        producer = wrapper._producer  # noqa: SLF001
        while True:
            try:
                producer.produce(topic, value, key, **options)
            except BufferError:
                producer.poll(0.1)
            else:
                return

    return produce_raw


def assignment(app: Application) -> list[tuple[str, int]]:
    """(topic on the cluster, partition) of each assigned partition, including changelogs."""
    return [(tp.topic, tp.partition) for tp in app._consumer.assignment()]  # noqa: SLF001


def consumer_position(app: Application, topic_on_cluster: str, partition: int) -> tuple[int, int]:
    """(next offset, cached high watermark) of an assigned partition; negative when unknown."""
    consumer = app._consumer  # noqa: SLF001
    at = consumer.position([TopicPartition(topic_on_cluster, partition)])[0].offset
    _, high = consumer.get_watermark_offsets(
        TopicPartition(topic_on_cluster, partition), cached=True
    )
    return at, high


def queued(app: Application) -> int:
    """Number of records in the producer's queue or in flight."""
    return len(app._producer._producer._producer)  # noqa: SLF001


def committed_offset(app: Application, topic_on_cluster: str, partition: int) -> int | None:
    """The group's committed offset; None before the first commit. KafkaException on failure."""
    partitions = [TopicPartition(topic_on_cluster, partition)]
    [found] = app._consumer.committed(partitions, timeout=REQUEST_TIMEOUT_S)  # noqa: SLF001
    if found.error is not None:
        raise KafkaException(found.error)
    return found.offset if found.offset >= 0 else None
