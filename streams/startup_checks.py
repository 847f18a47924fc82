"""Checks before a shards process joins its group."""

from __future__ import annotations

import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from segments.contracts.topics import SHARDS_TOPIC
from segments.kafka import topics
from segments.kafka.clients import REQUEST_TIMEOUT_S
from segments.settings import Settings
from segments.streams.quix import TRANSACTION_TIMEOUT_MS

_RETRY_S = 0.1
_COORDINATOR_MOVES = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
)


class StartRefusedError(RuntimeError):
    """The process must not start; the message states the problem and what to do."""


def changelog_topic(settings: Settings) -> str:
    """Name of the shards' changelog topic on the cluster."""
    return f"changelog__{settings.group('shards')}--shards--default"


def shards_consumer(settings: Settings) -> Consumer:
    """A consumer with the shards' group id that does not join the group."""
    return Consumer(
        settings.client_config()
        | {
            "group.id": settings.group("shards"),
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
        }
    )


def committed_offsets(consumer: Consumer, settings: Settings) -> dict[int, int | None]:
    """Committed offset of each partition of the log, or None."""
    topic = settings.topic(SHARDS_TOPIC)
    partitions = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            found = consumer.committed(partitions, timeout=REQUEST_TIMEOUT_S)
            break
        except KafkaException as error:
            # A broker that has just started may not know the group's coordinator yet.
            if error.args[0].code() not in _COORDINATOR_MOVES or time.monotonic() > deadline_s:
                raise
        time.sleep(_RETRY_S)
    return {tp.partition: tp.offset if tp.offset >= 0 else None for tp in found}


def _has_records(consumer: Consumer, topic: str, partition: int) -> bool:
    """Whether a partition contains any committed record.

    The watermarks are not enough: an aborted transaction, as of a process killed during its first
    one, uses up offsets without leaving a record.
    """
    low, high = consumer.get_watermark_offsets(
        TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S
    )
    if low == high:
        return False
    consumer.assign([TopicPartition(topic, partition, low)])
    try:
        message = consumer.poll(REQUEST_TIMEOUT_S)
    finally:
        consumer.unassign()
    if message is None:
        raise StartRefusedError(f"timed out reading {topic}[{partition}]: start again")
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
        raise KafkaException(error)
    return error is None


def check_shards(settings: Settings) -> None:
    """Check topics and committed offsets before a shards process starts.

    `StartRefusedError` when offsets are missing although the changelog is not empty: Quix would
    silently skip every changelog row and start with an empty state. `TopicsError` when the topics
    differ from the settings.
    """
    topics.check(settings)
    consumer = shards_consumer(settings)
    try:
        committed = committed_offsets(consumer, settings)
        for partition, offset in committed.items():
            if offset is not None:
                continue
            if _has_records(consumer, changelog_topic(settings), partition):
                raise StartRefusedError(
                    f"the group {settings.group('shards')} has no committed offset for "
                    f"{settings.topic(SHARDS_TOPIC)}[{partition}], but its changelog "
                    f"{changelog_topic(settings)}[{partition}] is not empty: starting now would "
                    "lose the state. Run `segments state rebuild`, which restores the offsets "
                    "from the changelog, and start again."
                )
    finally:
        consumer.close()


def check_position(topic: str, partition: int, applied: int, committed: int | None) -> None:
    """Check that a shard's restored state matches the group's committed offset.

    `StartRefusedError` if not. Both are written in one transaction. They differ when another
    process's open transaction hid changelog rows during the restore (compare KAFKA-10167), or when
    offsets were set manually. `applied`: offset of the last record in the state, -1 for none.
    """
    if applied == (-1 if committed is None else committed - 1):
        return
    raise StartRefusedError(
        f"the state of {topic}[{partition}] ends at offset {applied}, but the group's committed "
        f"offset is {committed}. After the crash of another process this resolves itself within "
        f"{2 * TRANSACTION_TIMEOUT_MS // 1000} s: start again. If it persists, offsets were set "
        "manually: set them back, or, if the local state is wrong, run `segments state reset`, "
        "which restores it from the changelog."
    )
