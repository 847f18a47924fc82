"""Messages for expected errors: a line with advice, without a traceback."""

from __future__ import annotations

import sys

from pydantic import ValidationError

from segments.cli.usage import UsageError
from segments.client import (
    ForbiddenError,
    IncompleteError,
    PendingError,
    RateLimitedError,
    SegmentsError,
    StaleError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from segments.settings import UnknownSettingError

# By name, so that the lookup loads no module that the command did not need.
_BY_NAME = (
    ("segments.kafka.access", "KafkaError"),
    ("segments.kafka.jars", "JarsError"),
    ("segments.process.ports", "PortInUseError"),
    ("segments.kafka.topics", "TopicsError"),
    ("segments.streams.maintenance", "OperationError"),
    ("segments.streams.startup_checks", "StartRefusedError"),
    ("segments.settings.auth", "ExposedError"),
    ("segments.http.auth.api_keys", "KeysError"),
)
_ADVICE: tuple[tuple[type[SegmentsError], str], ...] = (
    (
        UnreachableError,
        "Check that the service runs at this URL (--url, SEGMENTS_URL), or run segments doctor.",
    ),
    (UnauthorizedError, "Set SEGMENTS_TOKEN to a valid token, or pass its file with --token-file."),
    (ForbiddenError, "Use a token with the required role."),
    (PendingError, "The command is accepted: segments result with this id prints its result."),
    (IncompleteError, "The output is incomplete. Try again."),
    (RateLimitedError, "Wait, then try again."),
    (StaleError, "Try again in a moment; segments doctor shows what is behind."),
    (UnavailableError, "Try again in a moment; segments doctor shows what is wrong."),
)


def lines(error: Exception) -> list[str] | None:
    """Lines to print for an error; None for a bug, whose traceback is needed."""
    if isinstance(error, SegmentsError):
        return [
            str(error),
            *[advice for error_type, advice in _ADVICE if isinstance(error, error_type)][:1],
        ]
    if isinstance(error, ValidationError):
        return [f"{error.title}:", *_fields(error)]
    if isinstance(error, (UsageError, FileNotFoundError, UnknownSettingError)):
        return [str(error)]
    confluent_kafka = sys.modules.get("confluent_kafka")
    if confluent_kafka is not None and isinstance(error, confluent_kafka.KafkaException):
        return [f"Kafka: {error.args[0]}"]
    for module, name in _BY_NAME:
        error_type = getattr(sys.modules.get(module), name, None)
        if error_type is not None and isinstance(error, error_type):
            return [str(error)]
    return None


def _fields(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
