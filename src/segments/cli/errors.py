"""Messages for expected errors: a line or two with advice, without a traceback."""

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
        "Is the service up, and there (--url, SEGMENTS_URL)? segments doctor says more.",
    ),
    (UnauthorizedError, "Put a valid token into SEGMENTS_TOKEN, or name its file: --token-file."),
    (ForbiddenError, "Use a token with the role that is needed."),
    (PendingError, "It is accepted: segments result with this id says what became of it."),
    (IncompleteError, "What came is not all. Run it again."),
    (RateLimitedError, "Wait, and run it again."),
    (StaleError, "Run it again in a moment; segments doctor says what is behind."),
    (UnavailableError, "Run it again in a moment; segments doctor says what is amiss."),
)


def lines(error: Exception) -> list[str] | None:
    """Lines to print for an error; None for a bug, which deserves its traceback."""
    if isinstance(error, SegmentsError):
        return [str(error), *[advice for kind, advice in _ADVICE if isinstance(error, kind)][:1]]
    if isinstance(error, ValidationError):
        return [f"{error.title}:", *_fields(error)]
    if isinstance(error, (UsageError, FileNotFoundError, UnknownSettingError)):
        return [str(error)]
    confluent_kafka = sys.modules.get("confluent_kafka")
    if confluent_kafka is not None and isinstance(error, confluent_kafka.KafkaException):
        return [f"Kafka: {error.args[0]}"]
    for module, name in _BY_NAME:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return [str(error)]
    return None


def _fields(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
