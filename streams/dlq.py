"""The dead letter queue: the original bytes and headers, and why they stand there.

The header names are those of Kafka Connect, so that existing tools can read and replay them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from segments.telemetry import metrics

MESSAGE_MAX_LENGTH = 1_000
_PREFIX = "__connect.errors."
# Room for the key, the headers and the record's own framing beside a value of the largest size.
_FRAMING_BYTES = 65_536


def headers(
    original: Sequence[tuple[str, bytes]],
    coordinates: tuple[str, int, int],
    *,
    stage: str,
    exception: str,
    message: str,
) -> list[tuple[str, bytes]]:
    """The original headers and the reason. `coordinates` = topic on the cluster, partition, offset.

    A record that was replayed out of the queue and fails again gets the new reason, not two.
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
    kept = [(name, value) for name, value in original if not name.startswith(_PREFIX)]
    return kept + [
        (_PREFIX + name, text.encode("utf-8", "backslashreplace")) for name, text in reasons.items()
    ]


def stage(dead: Sequence[tuple[str, bytes]]) -> str:
    """The stage at which a record on the queue was refused, from its headers."""
    return next(value.decode() for name, value in dead if name == _PREFIX + "stage")


def shorten(
    key: bytes | None,
    value: bytes | None,
    original: Sequence[tuple[str, bytes]],
    message_max_bytes: int,
) -> tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]:
    """Key, value and headers as they are, or cut to what can be sent: a failed send is fatal.

    Only what was compressed on its way to us, or came over a larger limit, has to be cut; its
    coordinates in the headers still find the whole.
    """
    room = message_max_bytes - _FRAMING_BYTES
    headers_bytes = sum(len(name.encode()) + len(text or b"") + 16 for name, text in original)
    if len(key or b"") + len(value or b"") + headers_bytes <= room:
        return key, value, original
    return (
        None if key is None else key[: room // 4],
        None if value is None else value[: room // 4],
        original if headers_bytes <= room // 4 else (),
    )


def expect(application: str, stages: Iterable[str]) -> None:
    """Begin to count at zero: what comes first is an increase as well."""
    for each in stages:
        metrics.DLQ_RECORDS.labels(application, each)
