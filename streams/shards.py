"""The shards application: applies the log to the state machines, exactly once."""

from __future__ import annotations

import gc
import time
from pathlib import Path
from typing import Any

import orjson
from confluent_kafka import Producer
from quixstreams import Application

from segments.contracts import times
from segments.contracts.cloudevents import outgoing
from segments.contracts.log import HEADER_SOURCE, HEADER_TYPE, TICK, parse_source
from segments.contracts.topics import (
    DEFINITIONS_TOPIC,
    HISTORY_TOPIC,
    REFRESHES_TOPIC,
    RESULTS_TOPIC,
    SHARDS_TOPIC,
    USERS_TOPIC,
)
from segments.kafka.clients import Record, idempotent_producer, topic_ids
from segments.settings import Settings
from segments.state.machine.config import Config, LogRecord
from segments.state.machine.outputs import ShardOutput
from segments.state.machine.shard import DROPPED, Shard
from segments.state.store.store import ShardStore
from segments.streams import quix, quix_store, startup_checks
from segments.streams.lag import LagReporter
from segments.streams.shard_gauges import CommandCounter, ShardGauges
from segments.streams.ticks import TickSchedule, WorkPace
from segments.telemetry import logs, metrics, metrics_server, tracing

NAME = "shards"
_METRICS_INTERVAL_MS = 1_000
_APPLY_SAMPLE = 100
# Documents are long-lived and acyclic; scanning them for cycles at Python's default rate costs a
# third of the time.
_GC_THRESHOLDS = (50_000, 20, 100)

log = logs.get(__name__)


def shard_config(settings: Settings, partition: int) -> Config:
    """The state machine's config of one partition."""
    limits = settings.limits
    return Config(
        partition=partition,
        partitions=settings.partitions,
        accept_unknown_users=settings.unknown_users == "accept",
        segments_per_user=limits.segments_per_user,
        segments=limits.segments,
        parked_per_user=limits.parked_per_user,
        park_ms=limits.park_ms,
        remembered_ids=limits.remembered_ids,
        job_slice=limits.job_slice,
    )


def decode(record: Record) -> LogRecord:
    """A record of the log. ValueError if it was not written by one of our applications."""
    headers = dict(record.headers)
    try:
        record_type = headers[HEADER_TYPE].decode()
        source = headers.get(HEADER_SOURCE)
        return LogRecord(
            record_type,
            orjson.loads(record.value or b"null"),
            record.offset,
            record.timestamp_ms,
            None if source is None else parse_source(source.decode()),
        )
    except (KeyError, ValueError) as error:
        where = f"{record.topic}[{record.partition}] at offset {record.offset}"
        raise ValueError(f"not a log record: {where}: {error!r}") from error


class Shards:
    """Binds the machines of the assigned partitions to their application."""

    def __init__(
        self,
        settings: Settings,
        app: quix.DirectApplication,
        ticks: Producer,
        events_source: str | None = None,
    ) -> None:
        """`events_source`: the source of results and history rows as CloudEvents, if they are."""
        self._settings = settings
        self._app = app
        self._events_source = events_source
        self._opened: dict[int, Any] = {}
        self._produce = quix.transactional_output(app)
        self._ticks = ticks
        self._schedules: dict[int, TickSchedule] = {}
        self._pace = WorkPace(settings.job_rest_ratio)
        self._metrics_at_ms = 0
        self._records = metrics.RECORDS.labels(NAME, SHARDS_TOPIC)
        self._count = 0
        self._commands = CommandCounter()
        self._gauges = ShardGauges(settings.partitions, (NAME, SHARDS_TOPIC))
        self._names = {
            name: settings.topic(name)
            for name in (
                SHARDS_TOPIC,
                USERS_TOPIC,
                DEFINITIONS_TOPIC,
                RESULTS_TOPIC,
                HISTORY_TOPIC,
                REFRESHES_TOPIC,
            )
        }
        self.store = quix_store.stateful(app, settings, SHARDS_TOPIC, self._make_store, self.handle)
        quix.every_loop(app, self.every_loop)

    def _make_store(self, name: str, stream_id: str, base_dir: Path, changelogs: Any) -> ShardStore:
        return ShardStore(
            name,
            stream_id,
            base_dir,
            changelogs,
            configure=lambda partition: shard_config(self._settings, partition),
            users_topic=self._names[USERS_TOPIC],
            produce=self._produce,
        )

    def handle(self, record: Record) -> None:
        """Apply one record of the log and produce its outputs."""
        shard = self._machine(record)
        if record.offset <= shard.shard["offset"]:
            raise RuntimeError(f"{record.topic}[{record.partition}] repeats offset {record.offset}")
        log_record = decode(record)
        self._count += 1
        sampled = self._count % _APPLY_SAMPLE == 0
        started = time.perf_counter() if sampled else 0.0
        outputs = _applied(shard, log_record)
        if sampled:
            metrics.APPLY_SECONDS.observe(time.perf_counter() - started)
            self._records.inc(_APPLY_SAMPLE)
        if outputs is DROPPED:
            metrics.DUPLICATES_DROPPED.inc()
        if log_record.type == TICK:
            self._schedule(record.partition).applied()
            self._pace.finished(record.partition, times.now_ms())
        self._produce_all(outputs, record)

    def _produce_all(self, outputs: list[ShardOutput], record: Record) -> None:
        source = self._events_source
        for number, (topic, key, value, partition, record_type, trace) in enumerate(outputs):
            if topic == RESULTS_TOPIC:
                self._commands.count(value)
            options: dict[str, Any] = {}
            if partition is not None:
                options["partition"] = partition
            if record_type is not None:
                options["headers"] = [(HEADER_TYPE, record_type.encode())]
            elif trace is not None:
                options["headers"] = tracing.to_headers(trace)
            if source is not None:
                event_id = f"{record.partition}:{record.offset}:{number}"
                event = outgoing.event_headers(topic, value, source, event_id)
                options["headers"] = options.get("headers", []) + event
            self._produce(self._names[topic], orjson.dumps(value), key, **options)

    def _machine(self, record: Record) -> Shard:
        partition = record.partition
        stored = self.store.partition(partition)
        if not self._is_open(partition, stored):
            self._open_assigned()
            if not self._is_open(partition, stored):
                raise RuntimeError(f"a record of {record.topic}[{partition}] during its recovery")
        shard: Shard = stored.shard
        return shard

    def _is_open(self, partition: int, stored: Any) -> bool:
        return self._opened.get(partition) is stored

    def _open_assigned(self) -> list[tuple[int, Shard]]:
        """The machine of every assigned shard that is restored.

        They are built together, before anything is produced: building one takes seconds when it has
        many users, and an open transaction must not wait for that.
        """
        assigned = self.store.assigned()
        for partition, stored in assigned:
            if not self._is_open(partition, stored):
                committed = quix.committed_offset(self._app, self._names[SHARDS_TOPIC], partition)
                applied = stored.shard.shard["offset"]
                startup_checks.check_position(
                    self._names[SHARDS_TOPIC], partition, applied, committed
                )
                self._opened[partition] = stored
        return [(partition, stored.shard) for partition, stored in assigned]

    def _schedule(self, partition: int) -> TickSchedule:
        schedule = self._schedules.get(partition)
        if schedule is None:
            schedule = self._schedules[partition] = TickSchedule(self._settings.tick_interval_ms)
        return schedule

    def every_loop(self) -> None:
        """Append due ticks and update the metrics at intervals."""
        now_ms = times.now_ms()
        shards = self._open_assigned()
        self._append_ticks(shards, now_ms)
        self._ticks.poll(0)
        if now_ms - self._metrics_at_ms >= _METRICS_INTERVAL_MS:
            self._metrics_at_ms = now_ms
            self._report(shards)

    def _append_ticks(self, shards: list[tuple[int, Shard]], now_ms: int) -> None:
        for partition, shard in self._pace.in_turn(shards):
            due_ms = shard.next_due_ms()
            sliced = due_ms == 0 and not shard.has_urgent_work
            if sliced and not self._pace.may_start(now_ms):
                due_ms = None
            if self._schedule(partition).should_append(now_ms, due_ms):
                self._append_tick(partition)
                if sliced:
                    self._pace.started(partition, now_ms)

    def _append_tick(self, partition: int) -> None:
        try:
            self._ticks.produce(
                self._names[SHARDS_TOPIC],
                b"{}",
                partition=partition,
                headers=[(HEADER_TYPE, TICK.encode())],
            )
        except BufferError:
            # The broker is unreachable: ticks are queued already, and any of them will do.
            log.warning("tick_not_appended", partition=partition, reason="producer queue is full")

    def _report(self, shards: list[tuple[int, Shard]]) -> None:
        for partition in [p for p, stored in self._opened.items() if stored.closed]:
            del self._opened[partition]  # assigned to another process: free its memory
        self._commands.report()
        self._gauges.update(shards)


def _applied(shard: Shard, record: LogRecord) -> list[ShardOutput]:
    """Apply a record, inside a span if it is traced and spans are exported."""
    trace = record.value.get("trace")
    if trace is None or not tracing.is_reported():
        return shard.apply(record)
    with tracing.span(f"apply {record.type}", trace):
        return shard.apply(record)


def _events_source(settings: Settings) -> str | None:
    if not settings.kafka.cloudevents:
        return None
    return outgoing.source_of(
        settings.topic(SHARDS_TOPIC), topic_ids(settings, [SHARDS_TOPIC])[SHARDS_TOPIC]
    )


def build(settings: Settings) -> Application:
    """The application, ready to run."""
    app = quix.application(settings, NAME, exactly_once=True)
    ticks = idempotent_producer(
        settings, queue_buffering_max_messages=1_000, linger_ms=0, enable_gapless_guarantee=False
    )
    Shards(settings, app, ticks, _events_source(settings))
    LagReporter(app, settings, NAME, {SHARDS_TOPIC: None})
    return app


def run(settings: Settings) -> None:
    """Run until SIGTERM or SIGINT.

    `startup_checks.StartRefusedError` if the state cannot be trusted.
    """
    logs.configure(settings.log_level, NAME)
    startup_checks.check_shards(settings)
    metrics_server.serve(settings, NAME)
    app = build(settings)
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    quix.run(app)
