"""What must be true before a shards process takes part (design 8)."""

from __future__ import annotations

from confluent_kafka import Consumer, TopicPartition

from segments import topics
from segments.settings import Settings
from segments.streams.quix import REQUEST_TIMEOUT_S

LOG = "segments.shards"


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
    topic = settings.topic(LOG)
    asked = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
    return {
        tp.partition: tp.offset if tp.offset >= 0 else None
        for tp in consumer.committed(asked, timeout=REQUEST_TIMEOUT_S)
    }


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
            low, high = consumer.get_watermark_offsets(
                TopicPartition(changelog_topic(settings), partition), timeout=REQUEST_TIMEOUT_S
            )
            if high > low:
                raise StartRefusedError(
                    f"the group {settings.group('shards')} has no committed offset for "
                    f"{settings.topic(LOG)}[{partition}], but its changelog "
                    f"{changelog_topic(settings)}[{partition}] is not empty: starting now would "
                    "lose the state. Run `segments state rebuild`, which sets the offsets to "
                    "where the changelog ends, and start again."
                )
    finally:
        consumer.close()
