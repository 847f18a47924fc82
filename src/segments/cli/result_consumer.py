"""Consumer of command results from now on."""

from __future__ import annotations

from confluent_kafka import OFFSET_END, Consumer, KafkaException, TopicPartition

from segments.contracts.topics import RESULTS_TOPIC
from segments.settings import Settings

_TIMEOUT_S = 30.0


def results_from_now(settings: Settings) -> Consumer:
    """A consumer of all results produced after this call; the caller closes it.

    KafkaException if the topic does not exist.
    """
    topic = settings.topic(RESULTS_TOPIC)
    consumer = Consumer(
        settings.client_config()
        | {
            "group.id": settings.group("send"),
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    found = consumer.list_topics(topic, timeout=_TIMEOUT_S).topics[topic]
    if found.error is not None:
        consumer.close()
        raise KafkaException(found.error)
    ends = [
        TopicPartition(topic, partition, _end(consumer, topic, partition))
        for partition in found.partitions
    ]
    consumer.assign(ends)
    return consumer


def _end(consumer: Consumer, topic: str, partition: int) -> int:
    """The current end: OFFSET_END would be resolved only after the command is sent."""
    _, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT_S)
    return int(high) if high >= 0 else OFFSET_END
