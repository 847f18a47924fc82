"""Kills processes at random moments while commands and events are sent, reproducibly by seed."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field

from tests.support import deployments
from tests.support.crash.cluster import Cluster, parts

WORKING_TIMEOUT_S = 90.0
_LONGEST_PAUSE_S = 0.7


@dataclass
class KillChances:
    """Probabilities of variations of a kill of one working process."""

    wipe: float = 0.3
    early: float = 0.15
    """kill it during its start or recovery"""
    stays_down: float = 0.15
    """start it only after the next kill"""
    all_at_once: float = 0.05
    freeze: float = 0.0
    """freeze a router or shards process until its session times out and others take over"""


@dataclass
class KillSchedule:
    """`run` kills processes until `kills` are reached or the time is up."""

    cluster: Cluster
    seed: int
    kills: int
    broker_restarts: int = 1
    duration_s: float = math.inf
    chances: KillChances = field(default_factory=KillChances)

    def run(self) -> None:
        numbers = random.Random(self.seed)
        restarts = [
            self.kills * (n + 1) // (self.broker_restarts + 1) for n in range(self.broker_restarts)
        ]
        deadline = time.monotonic() + self.duration_s
        down: list[str] = []
        while (killed := self.cluster.kills.total()) < self.kills and time.monotonic() < deadline:
            self.cluster.restart_exited()
            # A kill of all processes at once may skip the exact number.
            if restarts and killed >= restarts[0]:
                del restarts[0]
                self.cluster.restart_broker()
            if not down and numbers.random() < self.chances.freeze:
                self._freeze_past_session(numbers)
            victims = self._victims(numbers, down)
            for name in victims:
                self.cluster.kill(name)
                if name.startswith(("shards", "http")) and numbers.random() < self.chances.wipe:
                    self.cluster.wipe(name)
            self.cluster.start(*down)
            stays_down = numbers.random() < self.chances.stays_down and len(victims) == 1
            down = victims if stays_down else []
            if not down:
                self.cluster.start(*victims)
        self.cluster.start(*down)

    def _victims(self, numbers: random.Random, down: list[str]) -> list[str]:
        up = [name for name in self.cluster.names if name not in down]
        everyone = numbers.random() < self.chances.all_at_once
        name = numbers.choice(up)
        # While another is down this one may receive no work: kill it without waiting.
        if not down and numbers.random() >= self.chances.early:
            self._wait_until_working(name)
        time.sleep(numbers.uniform(0, _LONGEST_PAUSE_S))
        self.cluster.restart_exited()
        return up if everyone else [name]

    def _freeze_past_session(self, numbers: random.Random) -> None:
        candidates = [n for n in self.cluster.names if n.startswith(("router", "shards"))]
        name = numbers.choice(candidates)
        self._wait_until_working(name)
        self.cluster.freeze(name)
        application, instance = parts(name)
        deployments.wait_until(
            lambda: instance not in self.cluster.members(application),
            WORKING_TIMEOUT_S,
            f"the session timeout of {name}",
            poll_s=0.1,
        )
        self.cluster.thaw(name)

    def _wait_until_working(self, name: str) -> None:
        def working() -> bool:
            self.cluster.restart_exited()
            return self.cluster.working(name)

        deployments.wait_until(working, WORKING_TIMEOUT_S, f"{name} at work", poll_s=0.1)
