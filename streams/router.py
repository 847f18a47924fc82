"""router: commands and user events, re-keyed to the partition of their user or segment.

    segments.commands ─┐            ┌─▶ segments.shards    commands, one log record each
                       ├─▶ route ───┼─▶ users.refreshes    user events
    users.events ──────┘            ├─▶ segments.results   `invalid`, where the id can be read
                                    └─▶ segments.dlq       what is not understood

At least once, with a producer that leaves no gap: a source partition's records reach the log in
order and without omission, perhaps again. An error of Kafka ends the process before the offsets are
committed; the next one reads the records again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from quixstreams import Application

from segments.kafka.clients import Record, topic_ids
from segments.settings import Settings
from segments.streams import dlq, quix
from segments.streams.lag import Consumption, LagReporter
from segments.streams.routing import (
    COMMANDS_TOPIC,
    EVENTS_TOPIC,
    RESULTS_TOPIC,
    STAGES,
    Output,
    Router,
)
from segments.telemetry import logs, metrics, metrics_server, tracing

NAME = "router"
SOURCES = (COMMANDS_TOPIC, EVENTS_TOPIC)
_UNREPORTED = nullcontext()


def build(settings: Settings) -> Application:
    """The application, ready to run. KafkaException when a topic it reads is absent."""
    app = quix.application(settings, NAME)
    ids = topic_ids(settings, SOURCES)
    router = Router(
        {settings.topic(name): (name, ids[name]) for name in SOURCES},
        log_record_bytes=settings.limits.log_record_bytes,
        message_max_bytes=settings.kafka.message_max_bytes,
        cloudevents=settings.kafka.cloudevents,
    )
    consumptions = {name: Consumption(NAME, name) for name in SOURCES}
    for name, consumption in consumptions.items():
        quix.consume(app, settings, name, _forwarding(app, settings, router, consumption))
    LagReporter(app, settings, NAME, consumptions)
    dlq.expect(NAME, STAGES)
    return app


def _forwarding(
    app: Application, settings: Settings, router: Router, consumption: Consumption
) -> Callable[[Record], None]:
    def forward(record: Record) -> None:
        with _reported(record):
            for output in router.route(record):
                _send(app, settings, output)
        consumption.consumed(record.partition, record.timestamp_ms)

    return forward


def _reported(record: Record) -> AbstractContextManager[None]:
    """A span around a record that belongs to a trace, where anybody hears of it."""
    if record.headers and tracing.is_reported():
        trace = tracing.of_headers(record.headers)
        if trace is not None:
            return tracing.span("route", trace)
    return _UNREPORTED


def _send(app: Application, settings: Settings, output: Output) -> None:
    if output.topic == dlq.TOPIC:
        metrics.DLQ_RECORDS.labels(NAME, dlq.stage(output.headers)).inc()
    elif output.topic == RESULTS_TOPIC:
        metrics.COMMANDS.labels("invalid").inc()
    quix.produce(
        app,
        settings.topic(output.topic),
        key=output.key,
        value=output.value,
        headers=output.headers,
    )


def run(settings: Settings) -> None:
    """Route until SIGTERM or SIGINT."""
    logs.configure(settings.log_level, NAME)
    metrics_server.serve(settings, NAME)
    quix.run(build(settings))
