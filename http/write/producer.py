"""Produces commands to Kafka and waits for their results."""

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
from segments.http.read.waiters import Waiters
from segments.http.write.batch import BatchProducer
from segments.settings import Settings
from segments.telemetry import logs, tracing

MESSAGE_TIMEOUT_S = 20.0
COMMAND_QUEUE_MAX_RECORDS = 50_000
QUEUE_BATCHES = 8
"""How many batches of the largest size fit into the queue; bounds memory while Kafka is down."""
ACCEPTED_IDS_MAX = 200_000
_POLL_S = 0.2
_FLUSH_S = 5.0
_DELIVERY_S = 5.0

log = logs.get(__name__)


class CommandProducer:
    """Produces records and waits for acknowledgements; a thread polls for delivery reports.

    The future `failed` gets the exception of a fatal error of the producer.
    """

    def __init__(self, settings: Settings, waiters: Waiters) -> None:
        self._settings = settings
        self._waiters = waiters
        self._loop = asyncio.get_running_loop()
        self.failed: asyncio.Future[None] = self._loop.create_future()
        self._producer = KafkaProducer(
            settings.client_config()
            | {
                "partitioner": "murmur2",
                "linger.ms": 1,
                "enable.idempotence": True,
                "message.timeout.ms": int(MESSAGE_TIMEOUT_S * 1000),
                "message.max.bytes": settings.kafka.message_max_bytes,
                "queue.buffering.max.messages": COMMAND_QUEUE_MAX_RECORDS,
                "queue.buffering.max.kbytes": QUEUE_BATCHES * settings.http.max_batch_bytes // 1024,
            }
        )
        # Ids accepted here whose result has not arrived, so that they are reported as pending.
        self._accepted: dict[str, None] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._poll, name="delivery", daemon=True)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)

    def close(self) -> None:
        """Deliver what is queued, waiting a few seconds at most; blocks."""
        self._stopping.set()
        self._thread.join()
        if left := self._producer.flush(_FLUSH_S):
            log.warning("records_not_delivered", records=left)

    @property
    def queued(self) -> int:
        """How many records Kafka has not acknowledged yet."""
        return len(self._producer)

    def remember(self, command_id: str) -> None:
        """Remember a command that was accepted and whose result no request waits for."""
        self._accepted[command_id] = None
        if len(self._accepted) > ACCEPTED_IDS_MAX:
            del self._accepted[next(iter(self._accepted))]

    def forget(self, command_id: str) -> None:
        """Forget a command that was not accepted or whose result has arrived."""
        self._accepted.pop(command_id, None)

    def forget_all(self, command_ids: Iterable[str]) -> None:
        """Forget commands whose results have arrived."""
        if self._accepted:
            for command_id in command_ids:
                self.forget(command_id)

    def is_pending(self, command_id: str) -> bool:
        """Whether a command was accepted here and its result has not arrived."""
        return command_id in self._accepted

    def require_room(self, records: int) -> None:
        """Problem 503 unless the queue has room for all of these records (no partial batches)."""
        if len(self._producer) + records > COMMAND_QUEUE_MAX_RECORDS:
            raise _unavailable("too many commands wait for Kafka")

    def send(self, topic: str, key: str, value: dict[str, Any]) -> asyncio.Future[None]:
        """Queue a record; the future completes once Kafka has it. Problem 503 if it is full."""
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

    def batch(self, topic: str) -> BatchProducer:
        """A batch of many records to one topic (its name in topics.yaml)."""
        return BatchProducer(self._producer, self._settings.topic(topic))

    async def write(
        self, key: str, command: dict[str, Any], wait_s: float
    ) -> tuple[dict[str, Any] | None, float]:
        """Produce a command and wait for its result: (result, rest of the wait in seconds).

        The result is None if it does not arrive in time. Problem 503 if Kafka does not acknowledge
        the command within the wait, or within 5 s if that is longer.
        """
        command_id = command["id"]
        deadline_s = time.monotonic() + wait_s
        future = self._waiters.expect_result(command_id)
        try:
            sent = self.send(COMMANDS_TOPIC, key, command)
            await self.delivered(sent, timeout_s=max(wait_s, _DELIVERY_S))
            async with asyncio.timeout_at(self._loop.time() + deadline_s - time.monotonic()):
                result = await future
        except TimeoutError:
            return None, 0.0
        finally:
            self._waiters.forget(command_id, future)
        return result, max(0.0, deadline_s - time.monotonic())

    async def accept(self, key: str, command: dict[str, Any]) -> None:
        """Produce a command and wait for Kafka's acknowledgement. Problem 503 otherwise."""
        await self.delivered(self.send(COMMANDS_TOPIC, key, command), timeout_s=_DELIVERY_S)

    async def refresh(self, user_id: str, state: str) -> None:
        """Produce a refresh with a state set by hand, ordered with the other refreshes."""
        value = {"user_id": user_id, "reason": "manual", "state": state}
        await self.delivered(self.send(REFRESHES_TOPIC, user_id, value), timeout_s=_DELIVERY_S)

    async def delivered(self, *deliveries: asyncio.Future[None], timeout_s: float) -> None:
        """Wait until Kafka has acknowledged the records. Problem 503 if not all of them in time."""
        try:
            done, pending = await asyncio.wait(deliveries, timeout=timeout_s)
        finally:
            for delivery in deliveries:
                delivery.cancel()
        # Retrieve every exception: asyncio logs those that are never retrieved.
        errors = [error for delivery in done if (error := delivery.exception()) is not None]
        if errors:
            raise errors[0]
        if pending:
            raise _unavailable("no acknowledgement from Kafka")


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
