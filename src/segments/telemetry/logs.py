"""Logging: for people on a terminal, JSON lines otherwise."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str, application: str) -> None:
    """Set up structlog, and route the standard library's logs (Quix, aiohttp) through it."""
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_is_relevant)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # At lower levels libraries log every step, some with secrets: tokens, rows, signatures.
    # Only their warnings are of use to an operator.
    configured = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(logging.WARNING, configured))
    for own in ("segments", "kafka"):
        logging.getLogger(own).setLevel(configured)
    # It warns about each malformed trace context, which only the sending client can fix.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    structlog.contextvars.bind_contextvars(application=application)


def _is_relevant(record: logging.LogRecord) -> bool:
    """Drop librdkafka's warning at every start about an option that is set on purpose."""
    return "enable.gapless.guarantee is experimental" not in record.getMessage()


def of_kafka() -> logging.Logger:
    """The logger for Kafka clients, which would otherwise print to stderr."""
    return logging.getLogger("kafka")


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger. Events are the identifiers of `log_events.EVENTS`; facts are keyword arguments."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
