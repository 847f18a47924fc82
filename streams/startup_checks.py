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
    """The process must not start; the message says what was found and what to do."""


def changelog_topic(settings: Settings) -> str:
    """The changelog of the shards' state, on the cluster."""
    return f"changelog__{settings.group('shards')}--shards--default"


def shards_consumer(settings: Settings) -> Consumer:
    """A consumer that speaks for the shards' group without joining it."""
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
    """Committed offset of each partition of the log; None where there is none."""
    topic = settings.topic(SHARDS_TOPIC)
    asked = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
    deadline_s = time.monotonic() + REQUEST_TIMEOUT_S
    while True:
        try:
            found = consumer.committed(asked, timeout=REQUEST_TIMEOUT_S)
            break
        except KafkaException as error:
            # A broker that has just started does not know yet who answers for the group.
            if error.args[0].code() not in _COORDINATOR_MOVES or time.monotonic() > deadline_s:
                raise
        time.sleep(_RETRY_S)
    return {tp.partition: tp.offset if tp.offset >= 0 else None for tp in found}


def _holds_a_row(consumer: Consumer, topic: str, partition: int) -> bool:
    """Whether anything was ever committed to a partition.

    Its watermarks do not tell: a transaction that was aborted, as that of a process killed in its
    first one, takes offsets and leaves no record.
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
        raise StartRefusedError(f"the broker gave nothing of {topic}[{partition}] in time")
    error = message.error()
    if error is not None and error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
        raise KafkaException(error)
    return error is None


def check_shards(settings: Settings) -> None:
    """`StartRefusedError` when offsets are missing beside a changelog that is not empty.

    Quix would then skip every changelog row, start with an empty state and say nothing.
    `TopicsError` when the topics differ from the settings.
    """
    topics.check(settings)
    consumer = shards_consumer(settings)
    try:
        committed = committed_offsets(consumer, settings)
        for partition, offset in committed.items():
            if offset is not None:
                continue
            if _holds_a_row(consumer, changelog_topic(settings), partition):
                raise StartRefusedError(
                    f"the group {settings.group('shards')} has no committed offset for "
                    f"{settings.topic(SHARDS_TOPIC)}[{partition}], but its changelog "
                    f"{changelog_topic(settings)}[{partition}] is not empty: starting now would "
                    "lose the state. Run `segments state rebuild`, which sets the offsets to "
                    "where the changelog ends, and start again."
                )
    finally:
        consumer.close()


def check_position(topic: str, partition: int, applied: int, committed: int | None) -> None:
    """`StartRefusedError` unless a shard's state ends where its group goes on in the log.

    Both are written in one transaction. They differ when changelog rows were hidden behind another
    process's hanging transaction while this one restored (compare KAFKA-10167), or when somebody
    has set offsets by hand. `applied`: offset of the last record in the state, -1 for none.
    """
    if applied == (-1 if committed is None else committed - 1):
        return
    raise StartRefusedError(
        f"the state of {topic}[{partition}] ends at offset {applied}, but its group goes on at "
        f"{committed}. After a crash elsewhere this passes within "
        f"{2 * TRANSACTION_TIMEOUT_MS // 1000} s: start again. If it stays, offsets were set by "
        f"hand: set them back, or, if the state here is the one that is wrong, run `segments state "
        "reset`, which restores it from the changelog."
    )
