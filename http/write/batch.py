"""Many records to one topic without a future for each: counted, bounded, waited for at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from segments.contracts.log import encode
from segments.http.problems import Problem

IN_FLIGHT_MAX = 20_000
"""Records in the producer's queue, whoever sends them: the rest of it is for other requests."""
STALL_TIMEOUT_S = 30.0
_POLL_S = 0.01


class BulkDelivery:
    """Sends to one topic. Delivery reports come in the producer's thread."""

    def __init__(self, producer: Producer, topic: str) -> None:
        self._producer = producer
        self._topic = topic
        self._lock = threading.Lock()
        self._sent = 0
        self._settled = 0
        self._error: KafkaError | None = None

    def send(self, key: str, value: dict[str, Any]) -> None:
        """Queue a record; `room` must be asked for now and then. Problem 503 when none is left."""
        try:
            self._producer.produce(self._topic, encode(value), key, on_delivery=self._delivered)
        except BufferError:
            # Others fill the queue as well. To wait for them here would hold everybody up.
            raise self._refused("too many records wait for Kafka") from None
        except KafkaException as error:
            raise self._refused(error.args[0].str()) from None
        self._sent += 1

    def _delivered(self, error: KafkaError | None, _message: Any) -> None:
        with self._lock:
            self._settled += 1
            if error is not None:
                self._error = error

    async def room(self) -> None:
        """Let others go on, and return when few enough records are on their way.

        Problem 503 when nothing moves.
        """
        await asyncio.sleep(0)
        await self._until(lambda: len(self._producer) < IN_FLIGHT_MAX)

    async def done(self) -> None:
        """Return when Kafka has all of them. Problem 503 otherwise."""
        await self._until(lambda: self._settled == self._sent)

    async def _until(self, enough: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        moved, moved_at_s = (self._settled, len(self._producer)), loop.time()
        while not enough():
            await asyncio.sleep(_POLL_S)
            now = (self._settled, len(self._producer))
            if now != moved:
                moved, moved_at_s = now, loop.time()
            elif loop.time() - moved_at_s > STALL_TIMEOUT_S:
                raise self._refused("no word from Kafka")
        if self._error is not None:
            raise self._refused(self._error.str())

    def _refused(self, reason: str) -> Problem:
        return Problem(
            503,
            "kafka_unavailable",
            f"of {self._sent} records some may not have been accepted, send all again: {reason}",
            headers={"Retry-After": "1"},
        )
