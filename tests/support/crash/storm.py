"""Processes killed at random moments while commands and events flow; one seed, one schedule."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass, field

from tests.support import deployments
from tests.support.crash.harness import Plant, parts

WORKING_TIMEOUT_S = 90.0
_LONGEST_PAUSE_S = 0.7


@dataclass
class Chances:
    """How likely a kill is something more than the kill of one process at work."""

    wipe: float = 0.3
    early: float = 0.15
    """before it has got to work: at its start, or in its recovery"""
    stays_down: float = 0.15
    """until the next one is killed"""
    all_at_once: float = 0.05
    stands_still: float = 0.0
    """a process of router or shards: until its session is over and others may do its work"""


@dataclass
class Storm:
    """`run` kills until `kills` are reached or the time is over."""

    plant: Plant
    seed: int
    kills: int
    broker_restarts: int = 1
    duration_s: float = math.inf
    chances: Chances = field(default_factory=Chances)

    def run(self) -> None:
        numbers = random.Random(self.seed)
        restarts = [
            self.kills * (n + 1) // (self.broker_restarts + 1) for n in range(self.broker_restarts)
        ]
        deadline = time.monotonic() + self.duration_s
        down: list[str] = []
        while (killed := self.plant.kills.total()) < self.kills and time.monotonic() < deadline:
            self.plant.revive()
            # One kill can be of all at once, and pass the number.
            if restarts and killed >= restarts[0]:
                del restarts[0]
                self.plant.restart_broker()
            if not down and numbers.random() < self.chances.stands_still:
                self._stand_still(numbers)
            victims = self._victims(numbers, down)
            for name in victims:
                self.plant.kill(name)
                if name.startswith(("shards", "http")) and numbers.random() < self.chances.wipe:
                    self.plant.wipe(name)
            self.plant.start(*down)
            stays_down = numbers.random() < self.chances.stays_down and len(victims) == 1
            down = victims if stays_down else []
            if not down:
                self.plant.start(*victims)
        self.plant.start(*down)

    def _victims(self, numbers: random.Random, down: list[str]) -> list[str]:
        up = [name for name in self.plant.names if name not in down]
        everyone = numbers.random() < self.chances.all_at_once
        name = numbers.choice(up)
        # While another is down nothing may reach this one: it is then killed as it stands.
        if not down and numbers.random() >= self.chances.early:
            self._wait_until_working(name)
        # At any moment of its work.
        time.sleep(numbers.uniform(0, _LONGEST_PAUSE_S))
        self.plant.revive()
        return up if everyone else [name]

    def _stand_still(self, numbers: random.Random) -> None:
        candidates = [n for n in self.plant.names if n.startswith(("router", "shards"))]
        name = numbers.choice(candidates)
        self._wait_until_working(name)
        self.plant.freeze(name)
        application, instance = parts(name)
        deployments.wait_until(
            lambda: instance not in self.plant.members(application),
            WORKING_TIMEOUT_S,
            f"the end of the session of {name}",
            poll_s=0.1,
        )
        self.plant.thaw(name)

    def _wait_until_working(self, name: str) -> None:
        def working() -> bool:
            self.plant.revive()
            return self.plant.working(name)

        deployments.wait_until(working, WORKING_TIMEOUT_S, f"{name} at work", poll_s=0.1)
