"""BatchProducer with a fake producer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError

from segments.http.problems import Problem
from segments.http.write import batch
from segments.http.write.batch import BatchProducer

Delivered = Callable[[KafkaError | None, Any], None]


class FakeProducer:
    """A queue. `others`: records of other requests in it."""

    def __init__(self) -> None:
        self.queue: list[Delivered] = []
        self.others = 0

    def __len__(self) -> int:
        return len(self.queue) + self.others

    def produce(self, _topic: str, _value: bytes, _key: str, *, on_delivery: Delivered) -> None:
        self.queue.append(on_delivery)

    def deliver(self, error: KafkaError | None = None) -> None:
        self.queue.pop(0)(error, None)


@pytest.fixture
def producer() -> FakeProducer:
    return FakeProducer()


@pytest.fixture
def delivery(producer: FakeProducer) -> BatchProducer:
    stands_in: Any = producer
    return BatchProducer(stands_in, "topic")


async def test_flush_returns_when_kafka_has_all_records(
    producer: FakeProducer, delivery: BatchProducer
) -> None:
    await delivery.flush()
    for _ in range(3):
        delivery.send("u", {})
    producer.others = 7
    done = asyncio.create_task(delivery.flush())
    while producer.queue:
        await asyncio.sleep(0)
        assert not done.done()
        producer.deliver()
    await done


async def test_room_depends_on_the_whole_queue(
    producer: FakeProducer, delivery: BatchProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BATCH_QUEUE_MAX", 10)
    producer.others = 10
    room = asyncio.create_task(delivery.wait_for_room())
    for _ in range(5):
        await asyncio.sleep(0.01)
        assert not room.done()
    producer.others = 9
    await room
    delivery.send("u", {})
    room = asyncio.create_task(delivery.wait_for_room())
    await asyncio.sleep(0.01)
    assert not room.done()
    producer.deliver()
    await room


async def test_deliveries_of_other_requests_reset_the_stall_timeout(
    producer: FakeProducer, delivery: BatchProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "DELIVERY_STALL_TIMEOUT_S", 1.0)
    delivery.send("u", {})
    producer.others = 100
    done = asyncio.create_task(delivery.flush())
    for _ in range(50):
        producer.others -= 1
        await asyncio.sleep(0.03)
    assert not done.done()
    with pytest.raises(Problem, match="no acknowledgement from Kafka"):
        await done


@pytest.mark.parametrize("ask", [BatchProducer.wait_for_room, BatchProducer.flush])
async def test_one_failed_record_fails_the_batch(
    producer: FakeProducer, delivery: BatchProducer, ask: Callable[[BatchProducer], Any]
) -> None:
    for _ in range(2):
        delivery.send("u", {})
    producer.deliver(KafkaError(KafkaError._MSG_TIMED_OUT))
    producer.deliver()
    with pytest.raises(Problem) as raised:
        await ask(delivery)
    assert (raised.value.status, raised.value.code) == (503, "kafka_unavailable")
    assert "of 2 records" in raised.value.detail
