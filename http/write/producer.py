"""Commands on their way to Kafka, and the wait for their results."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as KafkaProducer

from segments.contracts.log import encode
from segments.contracts.topics import COMMANDS_TOPIC, REFRESHES_TOPIC
from segments.http.problems import Problem
from segments.http.read.waiters import Waiting
from segments.http.write.batch import BulkDelivery
from segments.settings import Settings
from segments.telemetry import logs, tracing

DELIVERY_TIMEOUT_S = 20.0
QUEUE_MAX_RECORDS = 50_000
QUEUE_BATCHES = 8
"""Largest batches that wait for Kafka at a time: while it is away, memory stays bounded."""
REMEMBERED_IDS = 200_000
_POLL_S = 0.2
_FLUSH_S = 5.0
_DELIVERY_S = 5.0

log = logs.get(__name__)


class CommandWriter:
    """Produces, and tells when Kafka has it; a thread serves the delivery reports.

    `failed` is done, with the exception, when the producer can produce no more.
    """

    def __init__(self, settings: Settings, waiting: Waiting) -> None:
        self._settings = settings
        self._waiting = waiting
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._producer = KafkaProducer(
            settings.client_config()
            | {
                "partitioner": "murmur2",
                "linger.ms": 1,
                "enable.idempotence": True,
                "message.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000),
                "message.max.bytes": settings.kafka.message_max_bytes,
                "queue.buffering.max.messages": QUEUE_MAX_RECORDS,
                "queue.buffering.max.kbytes": QUEUE_BATCHES * settings.http.max_batch_bytes // 1024,
            }
        )
        # Ids accepted here, so that who asks for a result is told that it is on its way.
        self._accepted: dict[str, None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="delivery", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)

    def close(self) -> None:
        """Deliver what is queued, for a few seconds at the most; blocks."""
        self._stopping.set()
        self._thread.join()
        if left := self._producer.flush(_FLUSH_S):
            log.warning("records not delivered at the end", records=left)

    @property
    def queued(self) -> int:
        """Records that Kafka has not acknowledged yet."""
        return len(self._producer)

    def remember(self, command_id: str) -> None:
        """A command was accepted whose result nobody waits for."""
        self._accepted[command_id] = None
        if len(self._accepted) > REMEMBERED_IDS:
            del self._accepted[next(iter(self._accepted))]

    def forget(self, command_id: str) -> None:
        """It cannot be said that a command is on its way: it is not, or its result has come."""
        self._accepted.pop(command_id, None)

    def heard(self, results: Iterable[str]) -> None:
        """These commands have their results."""
        if self._accepted:
            for command_id in results:
                self.forget(command_id)

    def accepted(self, command_id: str) -> bool:
        """Whether a command was accepted here whose result has not come."""
        return command_id in self._accepted

    def require_room(self, records: int) -> None:
        """Problem 503 unless so many records find a place: a batch is not begun in vain."""
        if len(self._producer) + records > QUEUE_MAX_RECORDS:
            raise _unavailable("too many commands wait for Kafka")

    def send(self, topic: str, key: str, value: dict[str, Any]) -> asyncio.Future[None]:
        """Done when Kafka has the record. Problem 503 when it cannot be taken now."""
        delivered: asyncio.Future[None] = self._loop.create_future()

        def on_delivery(error: KafkaError | None, _message: Any) -> None:
            self._loop.call_soon_threadsafe(_settle, delivered, error)

        name = self._settings.topic(topic)
        try:
            self._producer.produce(
                name,
                encode(value),
                key,
                on_delivery=on_delivery,
                headers=tracing.current_headers(),
            )
        except BufferError:
            raise _unavailable("too many commands wait for Kafka") from None
        except KafkaException as error:
            reason: KafkaError = error.args[0]
            if reason.fatal() and not self.failed.done():
                self.failed.set_exception(error)
            raise _unavailable(reason.str()) from None
        return delivered

    def bulk(self, topic: str) -> BulkDelivery:
        """For many records to one topic (its name in topics.yaml)."""
        return BulkDelivery(self._producer, self._settings.topic(topic))

    async def write(
        self, key: str, command: dict[str, Any], wait_s: float
    ) -> tuple[dict[str, Any] | None, float]:
        """(result, rest of the wait) of one command; no result when it does not come in time.

        Problem 503 when Kafka did not take the command within the wait, or 5 s if that is longer.
        """
        command_id = command["id"]
        deadline_s = time.monotonic() + wait_s
        future = self._waiting.expect_result(command_id)
        try:
            sent = self.send(COMMANDS_TOPIC, key, command)
            await self.delivered(sent, timeout_s=max(wait_s, _DELIVERY_S))
            async with asyncio.timeout_at(self._loop.time() + deadline_s - time.monotonic()):
                result = await future
        except TimeoutError:
            return None, 0.0
        finally:
            self._waiting.forget(command_id, future)
        return result, max(0.0, deadline_s - time.monotonic())

    async def accept(self, key: str, command: dict[str, Any]) -> None:
        """Return when Kafka has the command. Problem 503 otherwise."""
        await self.delivered(self.send(COMMANDS_TOPIC, key, command), timeout_s=_DELIVERY_S)

    async def refresh(self, user_id: str, state: str) -> None:
        """Put a user's state, given by hand, in its place among the refreshes."""
        value = {"user_id": user_id, "reason": "manual", "state": state}
        await self.delivered(self.send(REFRESHES_TOPIC, user_id, value), timeout_s=_DELIVERY_S)

    async def delivered(self, *deliveries: asyncio.Future[None], timeout_s: float) -> None:
        """Return when Kafka has the records. Problem 503 when it has not all of them in time."""
        try:
            done, pending = await asyncio.wait(deliveries, timeout=timeout_s)
        finally:
            for delivery in deliveries:
                delivery.cancel()
        # Each is looked at: an exception that nobody has seen is reported as a bug.
        errors = [error for delivery in done if (error := delivery.exception()) is not None]
        if errors:
            raise errors[0]
        if pending:
            raise _unavailable("no word from Kafka")


def _settle(delivered: asyncio.Future[None], error: KafkaError | None) -> None:
    if delivered.done():
        return
    if error is None:
        delivered.set_result(None)
    else:
        delivered.set_exception(_unavailable(error.str()))


def _unavailable(reason: str) -> Problem:
    return Problem(
        503,
        "kafka_unavailable",
        f"the command may not have been accepted, send it again with the same id: {reason}",
        headers={"Retry-After": "1"},
    )
