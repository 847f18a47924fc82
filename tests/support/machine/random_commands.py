"""Random commands and events from a seed, for long histories with much concurrency."""

from __future__ import annotations

from random import Random
from typing import Any

from segments.contracts.times import to_rfc3339
from tests.support.machine.world import World, user_id


class RandomCommands:
    """Sends random commands, user states, redeliveries and clock changes to a `World`."""

    def __init__(self, world: World, seed: int, *, users: int, segments: int) -> None:
        self.world = world
        self._random = Random(seed)
        self._users = users
        self._segments = [f"segment-{number}" for number in range(segments)]
        self._newest: dict[str, list[str]] = {}
        self._refreshes = 0

    def send(self, count: int) -> None:
        """Append `count` records, most of them membership changes."""
        for _ in range(count):
            kind = self._random.random()
            if kind < 0.90:
                self._change()
            elif kind < 0.93:
                self._user()
            elif kind < 0.95:
                self._segment()
            elif kind < 0.97:
                self.world.redeliver(self._random.randrange(2), self._random.randrange(1, 20))
            else:
                self.world.advance_clock(self._random.choice([1, 1, 7, 300, 2_500, -40]))

    def create_all(self) -> None:
        for segment in self._segments:
            self.world.send(0, type="create_segment", segment=segment)

    def deliver_some(self) -> None:
        """Append some ticks, apply some records, deliver some messages."""
        random, world = self._random, self.world
        for shard in world.shards:
            if random.random() < 0.3:
                world.append_tick(shard.config.partition)
            for _ in range(random.randrange(shard.behind + 1)):
                world.apply(shard.config.partition)
        for way, waiting in world.in_flight.items():
            for _ in range(random.randrange(len(waiting) + 1)):
                world.deliver(*way)

    def _id(self, scope: str) -> str:
        used = self._newest.setdefault(scope, [])
        if used and self._random.random() < 0.05:
            return self._random.choice(used[-5:])
        used.append(f"{scope}/{len(used)}")
        return used[-1]

    def _change(self) -> None:
        number = self._random.randrange(self._users)
        chosen = self._random.sample(self._segments, self._random.choice([1, 1, 1, 2, 3]))
        added = self._random.randrange(len(chosen) + 1)
        if self._random.random() < 0.01:
            chosen[0] = f"nowhere-{number}"
        self.world.send(
            number % 2,
            type="change_memberships",
            id=self._id(f"u{number}"),
            user_id=user_id(number),
            add=[self._addition(name) for name in chosen[:added]],
            remove=chosen[added:],
        )

    def _addition(self, segment: str) -> dict[str, Any]:
        kind = self._random.randrange(4)
        ms = self._random.choice([1, 5, 200, 3_000, 20_000])
        if kind == 0:
            return {"segment": segment, "ttl": ms / 1000}
        if kind == 1:
            at = self.world.clock_ms + ms - 3
            return {"segment": segment, "expires_at": to_rfc3339(at)}
        return {"segment": segment}

    def _user(self) -> None:
        self._refreshes += 1
        self.world.user(
            self._random.choice(["active", "active", "active", "blocked", "deleted"]),
            user_id(self._random.randrange(self._users)),
            refresh=("r", 0, self._refreshes - self._random.choice([0, 0, 0, 50])),
            version=self._random.choice([None, None, self._refreshes // 100]),
        )

    def _segment(self) -> None:
        segment = self._random.choice(self._segments)
        kind = self._random.choice(["create", "create", "create", "update", "delete"])
        more = {"description": f"{self._refreshes}"} if kind == "update" else {}
        self.world.send(
            self._random.randrange(2),
            type=f"{kind}_segment",
            id=self._id(segment),
            segment=segment,
            **more,
        )
