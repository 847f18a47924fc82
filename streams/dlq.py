"""The dead letter queue: original bytes and headers, plus headers with the reason.

The header names are those of Kafka Connect, so that existing tools can read and replay the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from segments.telemetry import metrics

MESSAGE_MAX_LENGTH = 1_000
_PREFIX = "__connect.errors."
# Reserved for the key, the headers and the framing of a record whose value has the maximum size.
_FRAMING_BYTES = 65_536


def headers(
    original: Sequence[tuple[str, bytes]],
    coordinates: tuple[str, int, int],
    *,
    stage: str,
    exception: str,
    message: str,
) -> list[tuple[str, bytes]]:
    """The original headers plus the reason. `coordinates`: topic on the cluster, partition, offset.

    A record that was replayed from the queue and fails again has only the new reason.
    """
    topic, partition, offset = coordinates
    reasons = {
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "stage": stage,
        "exception.class.name": exception,
        "exception.message": message[:MESSAGE_MAX_LENGTH],
    }
    others = [(name, value) for name, value in original if not name.startswith(_PREFIX)]
    return others + [
        (_PREFIX + name, text.encode("utf-8", "backslashreplace")) for name, text in reasons.items()
    ]


def stage(dead: Sequence[tuple[str, bytes]]) -> str:
    """The stage at which a record of the queue failed, from its headers."""
    return next(value.decode() for name, value in dead if name == _PREFIX + "stage")


def shorten(
    key: bytes | None,
    value: bytes | None,
    original: Sequence[tuple[str, bytes]],
    message_max_bytes: int,
) -> tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]:
    """Key, value and headers, truncated if they exceed the limit: a failed send would be fatal.

    Only records that were compressed, or accepted under a larger limit, can be too large; the
    coordinates in the headers locate the complete original.
    """
    available = message_max_bytes - _FRAMING_BYTES
    headers_bytes = sum(len(name.encode()) + len(text or b"") + 16 for name, text in original)
    if len(key or b"") + len(value or b"") + headers_bytes <= available:
        return key, value, original
    return (
        None if key is None else key[: available // 4],
        None if value is None else value[: available // 4],
        original if headers_bytes <= available // 4 else (),
    )


def init_counters(application: str, stages: Iterable[str]) -> None:
    """Create the counters with 0, so that the first record is an increase for Prometheus."""
    for each in stages:
        metrics.DLQ_RECORDS.labels(application, each)
