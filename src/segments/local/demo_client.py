"""Client of the tour: produces to Kafka, calls the HTTP interface, waits for conditions."""

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


class TourFailed(Exception):  # noqa: N818  # the tour failed, not the code
    """A step had an unexpected result; the message says which."""


class Stopped(Exception):  # noqa: N818  # not an error
    """A signal ended the tour."""


class DemoClient:
    """The calls and checks that the steps of the tour consist of."""

    def __init__(self, settings: Settings, base_url: str, stopping: threading.Event) -> None:
        self._settings = settings
        self._stopping = stopping
        self.http = httpx.Client(base_url=base_url, timeout=30)
        # The partitioners of the Java client and of librdkafka differ, as in real deployments: the
        # same user's commands get to different partitions.
        config = settings.client_config()
        self.java_like = Producer(config | {"partitioner": "murmur2_random"})
        self.default = Producer(config)

    def command(
        self,
        command_type: str,
        *,
        producer: Producer | None = None,
        key: str | None = None,
        **fields: Any,
    ) -> str:
        """Produce a command and return its id."""
        command_id = str(uuid4())
        command = {"type": command_type, "id": command_id, "actor": "demo", **fields}
        self.produce(producer or self.default, COMMANDS_TOPIC, key, command)
        return command_id

    def produce(self, producer: Producer, topic: str, key: str | None, value: Any) -> None:
        """Produce a JSON record."""
        producer.produce(self._settings.topic(topic), json.dumps(value).encode(), key)
        producer.poll(0)

    def flush(self) -> None:
        """Wait until every produced record is delivered."""
        for producer in (self.java_like, self.default):
            self.expect(producer.flush(TIMEOUT_S) == 0, "every record to be delivered")

    def get(self, path: str) -> Any:
        """The body of a GET that must return 200."""
        response = self.http.get(path)
        self.expect(response.status_code == httpx.codes.OK, f"{path}: 200, found {response.text}")
        return response.json()

    def post(self, path: str, body: Any, expected: int = 200) -> Any:
        """The body of a POST that must return the expected status."""
        response = self.http.post(path, json=body)
        self.expect(response.status_code == expected, f"{path}: {expected}, found {response.text}")
        return response.json()

    def segments(self, user_id: str) -> list[str]:
        """Names of a user's segments, over HTTP."""
        document = self.get(f"/v1/users/{user_id}/segments")
        return [membership["segment"] for membership in document["segments"]]

    def rows(self, user_id: str) -> list[dict[str, Any]]:
        """The newest rows of a user's history, over HTTP."""
        rows: list[dict[str, Any]] = self.get(f"/v1/users/{user_id}/history")["items"]
        return rows

    def result(self, command_id: str) -> dict[str, Any]:
        """Wait for the result of a command."""

        def decided() -> dict[str, Any] | None:
            response = self.http.get(f"/v1/commands/{command_id}")
            body: dict[str, Any] = response.json()
            found = response.status_code == httpx.codes.OK and body.get("status") != "pending"
            return body if found else None

        return self.until(decided, f"the result of {command_id}")

    def until(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait for a truthy value of the condition and return it. TourFailed on timeout."""
        deadline = time.monotonic() + TIMEOUT_S
        while not self._stopping.is_set():
            if value := condition():
                return value
            self.expect(time.monotonic() < deadline, f"{what} within {TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
        raise Stopped

    def expect(self, condition: bool, what: str) -> None:  # noqa: FBT001  # the condition itself
        """Raise TourFailed unless the condition holds."""
        if not condition:
            raise TourFailed(f"expected {what}")
