"""The router application: re-keys commands and user events by user or segment.

`routing.py` decides, as a pure function, what each record becomes.

    segments.commands ─┐            ┌─▶ segments.shards    commands, one log record each
                       ├─▶ route ───┼─▶ users.refreshes    user events
    users.events ──────┘            ├─▶ segments.results   `invalid`, if the id is readable
                                    └─▶ segments.dlq       records that are invalid

At-least-once, with a producer that leaves no gaps: the records of a source partition reach the log
in order and completely, possibly more than once. An error of Kafka ends the process before offsets
are committed; the next process reads the records again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from quixstreams import Application

from segments.contracts.topics import COMMANDS_TOPIC, DLQ_TOPIC, RESULTS_TOPIC, USER_EVENTS_TOPIC
from segments.kafka.clients import Record, topic_ids
from segments.settings import Settings
from segments.streams import dlq, quix
from segments.streams.lag import Consumption, LagReporter
from segments.streams.routing import ROUTING_STAGES, RoutedRecord, Router
from segments.telemetry import logs, metrics, metrics_server, tracing

NAME = "router"
SOURCES = (COMMANDS_TOPIC, USER_EVENTS_TOPIC)
_NO_SPAN = nullcontext()


def build(settings: Settings) -> Application:
    """Build the application. KafkaException if a topic that it reads does not exist."""
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
    dlq.init_counters(NAME, ROUTING_STAGES)
    return app


def _forwarding(
    app: Application, settings: Settings, router: Router, consumption: Consumption
) -> Callable[[Record], None]:
    def forward(record: Record) -> None:
        with _span(record):
            for output in router.route(record):
                _send(app, settings, output)
        consumption.consumed(record.partition, record.timestamp_ms)

    return forward


def _span(record: Record) -> AbstractContextManager[None]:
    """A span around a record that belongs to a trace, if spans are exported."""
    if record.headers and tracing.is_reported():
        trace = tracing.of_headers(record.headers)
        if trace is not None:
            return tracing.span("route", trace)
    return _NO_SPAN


def _send(app: Application, settings: Settings, output: RoutedRecord) -> None:
    if output.topic == DLQ_TOPIC:
        metrics.DLQ_RECORDS.labels(NAME, dlq.stage(output.headers)).inc()
    elif output.topic == RESULTS_TOPIC:
        metrics.COMMANDS_TOTAL.labels("invalid").inc()
    quix.produce(
        app,
        settings.topic(output.topic),
        key=output.key,
        value=output.value,
        headers=output.headers,
    )


def run(settings: Settings) -> None:
    """Route records until SIGTERM or SIGINT."""
    logs.configure(settings.log_level, NAME)
    metrics_server.serve(settings, NAME)
    quix.run(build(settings))
