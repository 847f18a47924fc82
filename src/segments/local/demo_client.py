"""A visitor of the running service: produces to Kafka, asks over HTTP, waits for conditions."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from uuid import uuid4

import httpx
from confluent_kafka import Producer

from segments.contracts.topics import COMMANDS_TOPIC
from segments.settings import Settings

T = TypeVar("T")
TIMEOUT_S = 60.0
_POLL_S = 0.05


class ShowFailed(Exception):  # noqa: N818  # it is the show that failed, as expected of a show
    """A step did not give what it should; the message says what."""


class Stopped(Exception):  # noqa: N818  # not an error: someone asked
    """The show was asked to end."""


class DemoClient:
    """What the steps of the show are made of."""

    def __init__(self, settings: Settings, base_url: str, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self.http = httpx.Client(base_url=base_url, timeout=30)
        # What other services have: one partitions as the Java client, one as librdkafka does by
        # default, so the same user's commands go to different partitions.
        config = settings.client_config()
        self.java_like = Producer(config | {"partitioner": "murmur2_random"})
        self.default = Producer(config)

    def command(
        self, kind: str, *, producer: Producer | None = None, key: str | None = None, **fields: Any
    ) -> str:
        """Send a command to Kafka; its id."""
        command_id = str(uuid4())
        command = {"type": kind, "id": command_id, "actor": "demo", **fields}
        self.produce(producer or self.default, COMMANDS_TOPIC, key, command)
        return command_id

    def produce(self, producer: Producer, topic: str, key: str | None, value: Any) -> None:
        """Send JSON to a topic."""
        producer.produce(self._settings.topic(topic), json.dumps(value).encode(), key)
        producer.poll(0)

    def flush(self) -> None:
        """Wait until all that was sent is in Kafka."""
        for producer in (self.java_like, self.default):
            self.expect(producer.flush(TIMEOUT_S) == 0, "every record delivered")

    def get(self, path: str) -> Any:
        """The body of a GET that must succeed."""
        response = self.http.get(path)
        self.expect(response.status_code == httpx.codes.OK, f"{path}: 200, found {response.text}")
        return response.json()

    def post(self, path: str, body: Any, expected: int = 200) -> Any:
        """The body of a POST that must answer as expected."""
        response = self.http.post(path, json=body)
        self.expect(response.status_code == expected, f"{path}: {expected}, found {response.text}")
        return response.json()

    def segments(self, user_id: str) -> list[str]:
        """Names of the segments of a user, over HTTP."""
        document = self.get(f"/v1/users/{user_id}/segments")
        return [membership["segment"] for membership in document["segments"]]

    def rows(self, user_id: str) -> list[dict[str, Any]]:
        """The newest rows of a user's history, over HTTP."""
        rows: list[dict[str, Any]] = self.get(f"/v1/users/{user_id}/history")["items"]
        return rows

    def result(self, command_id: str) -> dict[str, Any]:
        """The result of a command, waited for."""

        def decided() -> dict[str, Any] | None:
            response = self.http.get(f"/v1/commands/{command_id}")
            answer: dict[str, Any] = response.json()
            found = response.status_code == httpx.codes.OK and answer.get("status") != "pending"
            return answer if found else None

        return self.until(decided, f"the result of {command_id}")

    def until(self, condition: Callable[[], T | None], what: str) -> T:
        """The first truthy value of a condition; ShowFailed when it does not come."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self._stopping.is_set():
            if value := condition():
                return value
            self.expect(time.monotonic() < deadline, f"{what} within {TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
        raise Stopped

    def expect(self, condition: bool, what: str) -> None:  # noqa: FBT001  # it is the question
        """ShowFailed unless the condition holds."""
        if not condition:
            raise ShowFailed(f"expected {what}")
