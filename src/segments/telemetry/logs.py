"""Logs: for people on a terminal, JSON lines otherwise."""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str, application: str) -> None:
    """Set up structlog and route the standard library's logs (Quix, aiohttp) through it."""
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
    handler.addFilter(_is_news)
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
    # Libraries tell each step, some with what they were given: tokens, rows, signatures.
    # An operator acts on their warnings.
    wanted = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(logging.WARNING, wanted))
    for ours in ("segments", "kafka"):
        logging.getLogger(ours).setLevel(wanted)
    # It warns of each malformed trace context, which is nobody's business here.
    logging.getLogger("opentelemetry").setLevel(logging.ERROR)
    structlog.contextvars.bind_contextvars(application=application)


def _is_news(record: logging.LogRecord) -> bool:
    """Not what Kafka's client says at every start about an option that was chosen with care."""
    return "enable.gapless.guarantee is experimental" not in record.getMessage()


def of_kafka() -> logging.Logger:
    """For Kafka clients: what they would print goes where all else goes."""
    return logging.getLogger("kafka")


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger. Events are the identifiers of `log_events.EVENTS`; facts are keyword arguments."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger
