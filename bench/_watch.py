"""Commands at a steady rate, and how long some of them take until they are visible over HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import httpx
from confluent_kafka import Producer

from bench import _common as common
from bench import _pipeline as pipeline
from segments.settings import Settings

_LATE_S = 30.0


class Watch:
    """Sends from a thread, and looks for the watched from the one that calls `run`.

    The watched are additions of one segment. `seen_ms`: time from produce to the answer that showed
    it, in the order of being seen; `rate`: commands a second, once `run` is over.
    """

    def __init__(
        self, settings: Settings, client: httpx.Client, segment: str, look_every_s: float = 0.005
    ) -> None:
        self._settings = settings
        self._client = client
        self._segment = segment
        self._look_every_s = look_every_s
        self._producer = Producer(settings.client_config() | {"linger.ms": 2, "log_level": 0})
        self._watched: list[tuple[str, float]] = []
        self.seen_ms: list[float] = []
        self.rate = 0.0

    def run(
        self, commands: Iterable[tuple[str, bytes]], fresh: Iterable[str], rate: float, every: int
    ) -> None:
        """Send all commands, each `every`th replaced by the addition for a `fresh` user.

        BenchError when one of those is not seen in time.
        """
        sender = threading.Thread(target=self._send, args=(commands, iter(fresh), rate, every))
        sender.start()
        waiting: list[tuple[str, float]] = []
        looked = 0
        while sender.is_alive() or waiting or looked < len(self._watched):
            began_s = time.monotonic()
            new = self._watched[looked:]
            looked += len(new)
            waiting = [each for each in waiting + new if not self._seen(*each)]
            time.sleep(max(0.0, self._look_every_s - (time.monotonic() - began_s)))
        sender.join()

    def _seen(self, user_id: str, sent_s: float) -> bool:
        answer = self._client.get(f"/v1/users/{user_id}/segments")
        late_s = time.monotonic() - sent_s
        if answer.status_code == httpx.codes.OK and any(
            held["segment"] == self._segment for held in answer.json()["segments"]
        ):
            self.seen_ms.append(late_s * 1000)
            return True
        if late_s > _LATE_S:
            raise common.BenchError(f"{user_id} not seen after {late_s:.0f} s: {answer.text}")
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
                sent = pipeline.change(next(users), f"watched-{number}", [self._segment], [])
                pipeline.send(self._settings, self._producer, sent)
                self._watched.append((sent[0], time.monotonic()))
            else:
                pipeline.send(self._settings, self._producer, command)
        self.rate = number / (time.monotonic() - started_s)
        common.flush(self._producer)
