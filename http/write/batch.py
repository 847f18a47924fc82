"""Produces many records to one topic, counting deliveries instead of a future for each."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from segments.contracts.log import encode
from segments.http.problems import Problem

BATCH_QUEUE_MAX = 20_000
"""Records in the producer's queue beyond which a batch waits: the rest is for other requests."""
DELIVERY_STALL_TIMEOUT_S = 30.0
_POLL_S = 0.01


class BatchProducer:
    """Produces to one topic. Delivery reports are called in the producer's thread."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._lock = threading.Lock()
        self._sent = 0
        self._settled = 0
        self._error: KafkaError | None = None

    def send(self, key: str, value: dict[str, Any]) -> None:
        """Queue a record; call `wait_for_room` regularly. Problem 503 if the queue is full."""
        try:
            self._producer.produce(self._topic, encode(value), key, on_delivery=self._delivered)
        except BufferError:
            # Other requests fill the queue too. Waiting here would block the event loop.
            raise self._unavailable("too many records wait for Kafka") from None
        except KafkaException as error:
            raise self._unavailable(error.args[0].str()) from None
        self._sent += 1

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        with self._lock:
            self._settled += 1
            if error is not None:
                self._error = error

    async def wait_for_room(self) -> None:
        """Yield to other tasks, then wait until the queue is short enough.

        Problem 503 if nothing is delivered for DELIVERY_STALL_TIMEOUT_S.
        """
        await asyncio.sleep(0)
        await self._wait_until(lambda: len(self._producer) < BATCH_QUEUE_MAX)

    async def flush(self) -> None:
        """Wait until Kafka has acknowledged every record. Problem 503 otherwise."""
        await self._wait_until(lambda: self._settled == self._sent)

    async def _wait_until(self, condition: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        progress, progress_at_s = (self._settled, len(self._producer)), loop.time()
        while not condition():
            await asyncio.sleep(_POLL_S)
            now = (self._settled, len(self._producer))
            if now != progress:
                progress, progress_at_s = now, loop.time()
            elif loop.time() - progress_at_s > DELIVERY_STALL_TIMEOUT_S:
                raise self._unavailable("no acknowledgement from Kafka")
        if self._error is not None:
            raise self._unavailable(self._error.str())

    def _unavailable(self, reason: str) -> Problem:
        return Problem(
            503,
            "kafka_unavailable",
            f"some of {self._sent} records may not have been accepted, send all again: {reason}",
            headers={"Retry-After": "1"},
        )
