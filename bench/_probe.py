"""Sends commands at a steady rate and measures when a sample is visible over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import httpx
from confluent_kafka import Producer

from bench import _common as common
from bench import _pipeline as pipeline
from segments.settings import Settings

_VISIBLE_TIMEOUT_S = 30.0


class VisibilityProbe:
    """Sends commands from a thread; the thread that calls `run` polls for the sampled ones.

    Sampled commands add one segment. `visible_ms`: time from produce to the response that shows the
    segment, in the order of observation; `rate`: commands/s, set when `run` returns.
    """

    def __init__(
        self, settings: Settings, client: httpx.Client, segment: str, poll_interval_s: float = 0.005
    ) -> None:
        self._settings = settings
        self._client = client
        self._segment = segment
        self._poll_interval_s = poll_interval_s
        self._producer = Producer(settings.client_config() | {"linger.ms": 2, "log_level": 0})
        self._sampled: list[tuple[str, float]] = []
        self.visible_ms: list[float] = []
        self.rate = 0.0

    def run(
        self, commands: Iterable[tuple[str, bytes]], fresh: Iterable[str], rate: float, every: int
    ) -> None:
        """Send all commands, every `every`th replaced by an addition for the next of `fresh`.

        BenchError if a sampled command is not visible in time.
        """
        sender = threading.Thread(target=self._send, args=(commands, iter(fresh), rate, every))
        sender.start()
        waiting: list[tuple[str, float]] = []
        taken = 0
        while sender.is_alive() or waiting or taken < len(self._sampled):
            started_s = time.monotonic()
            new = self._sampled[taken:]
            taken += len(new)
            waiting = [each for each in waiting + new if not self._is_visible(*each)]
            time.sleep(max(0.0, self._poll_interval_s - (time.monotonic() - started_s)))
        sender.join()

    def _is_visible(self, user_id: str, sent_s: float) -> bool:
        answer = self._client.get(f"/v1/users/{user_id}/segments")
        elapsed_s = time.monotonic() - sent_s
        if answer.status_code == httpx.codes.OK and any(
            held["segment"] == self._segment for held in answer.json()["segments"]
        ):
            self.visible_ms.append(elapsed_s * 1000)
            return True
        if elapsed_s > _VISIBLE_TIMEOUT_S:
            raise common.BenchError(
                f"{user_id}: not visible after {elapsed_s:.0f} s: {answer.text}"
            )
        return False

    def _send(
        self,
        commands: Iterable[tuple[str, bytes]],
        fresh: Iterable[str],
        rate: float,
        every: int,
    ) -> None:
        started_s = time.monotonic()
        users = iter(fresh)
        number = 0
        for number, command in enumerate(commands, 1):
            while time.monotonic() < started_s + (number - 1) / rate:
                self._producer.poll(0.001)
            if number % every == 0:
                sent = pipeline.change(next(users), f"sampled-{number}", [self._segment], [])
                pipeline.send(self._settings, self._producer, sent)
                self._sampled.append((sent[0], time.monotonic()))
            else:
                pipeline.send(self._settings, self._producer, command)
        self.rate = number / (time.monotonic() - started_s)
        common.flush(self._producer)
