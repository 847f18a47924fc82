"""Deterministic simulation of several shards: no broker, no clock, the test chooses every order.

`send`, `user` and `append_tick` append to logs; `apply` and `deliver` do one step; `run` continues
until nothing is left to do. Messages between shards wait in `in_flight`; the order between writers
is arbitrary, messages of one writer to one partition stay in order.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

from segments.contracts.commands import COMMAND_ADAPTER
from segments.contracts.log import TICK, USER, encode, user_record
from segments.contracts.partitioning import partition_of
from segments.contracts.times import from_rfc3339
from segments.state.machine.config import Config
from segments.state.machine.documents import StoredUser, user_key
from tests.support.machine.hosted_shard import Appended, HostedShard, Produced

START_MS = 1_795_500_000_000
TOPIC_ID = "c0ffee"


def user_id(number: int) -> str:
    """The id of the n-th user of a test."""
    return str(uuid.UUID(int=0xA11CE << 100 | number))


ALICE = user_id(0)


class Row(NamedTuple):
    """A history row with instants in ms."""

    user_id: str
    segment: str
    generation: int
    operation: str
    at: int
    cause: str
    command_id: str | None
    actor: str | None
    expires_at: int | None


def row_of(value: bytes) -> Row:
    row = orjson.loads(value)
    row["at"] = from_rfc3339(row["at"])
    if row["expires_at"] is not None:
        row["expires_at"] = from_rfc3339(row["expires_at"])
    return Row(**row)


class World:
    """`partitions` shards; `limits` are fields of the machine's Config."""

    def __init__(self, partitions: int = 1, **limits: Any) -> None:
        self.partitions = partitions
        self.clock_ms = START_MS
        self.shards = [HostedShard(Config(p, partitions, **limits)) for p in range(partitions)]
        self.in_flight: dict[tuple[int, int], deque[Produced]] = {
            (writer, target): deque()
            for writer in range(partitions)
            for target in range(partitions)
        }
        self.results: list[dict[str, Any]] = []
        self.history: list[Row] = []
        self.definitions: dict[str, dict[str, Any]] = {}
        self.refreshes: list[dict[str, Any]] = []
        self._sources: list[list[tuple[int, str, bytes]]] = [[], []]
        self._ids = 0

    # --- appending ---

    def append(
        self, partition: int, kind: str, value: bytes, source: tuple[str, int] | None = None
    ) -> None:
        self.shards[partition].log.append(Appended(kind, value, self.clock_ms, source))

    def send(self, source: int = 0, **command: Any) -> str:
        """Append a command as the router does; its id."""
        self._ids += 1
        kind, key, value = COMMAND_ADAPTER.validate_python(command).log_record(f"c{self._ids}")
        routed = (partition_of(key, self.partitions), kind, encode(value))
        self._sources[source].append(routed)
        self._append_routed(source, len(self._sources[source]) - 1)
        return str(value["id"])

    def redeliver(self, source: int, count: int) -> None:
        """Append the last commands of a source partition again, as a restarted router does."""
        routed = len(self._sources[source])
        for offset in range(max(0, routed - count), routed):
            self._append_routed(source, offset)

    def _append_routed(self, source: int, offset: int) -> None:
        partition, kind, value = self._sources[source][offset]
        self.append(partition, kind, value, (f"{TOPIC_ID}:{source}", offset))

    def user(
        self,
        account: str,
        user: str = ALICE,
        *,
        refresh: tuple[str, int, int] = ("r", 0, 0),
        version: int | None = None,
    ) -> None:
        """Append a `user` record with a state from the user service."""
        value = user_record(user, account, version, refresh)
        self.append(partition_of(user, self.partitions), USER, encode(value))

    def append_tick(self, partition: int) -> None:
        self.append(partition, TICK, b"{}")

    def advance_clock(self, ms: int) -> None:
        """Move the clock of the broker."""
        self.clock_ms += ms

    # --- moving ---

    def apply(self, partition: int) -> list[Produced]:
        """Apply the next record of one log."""
        outputs = self.shards[partition].apply_next()
        for output in outputs:
            if output.topic == "segments.shards":
                assert output.type is not None
                assert output.partition is not None
                self.in_flight[partition, output.partition].append(output)
            elif output.topic == "segments.results":
                self.results.append(orjson.loads(output.value))
            elif output.topic == "segments.history":
                self.history.append(row_of(output.value))
            elif output.topic == "segments.definitions":
                self.definitions[output.key] = orjson.loads(output.value)
            else:
                assert output.topic == "users.refreshes"
                self.refreshes.append(orjson.loads(output.value))
        return outputs

    def deliver(self, writer: int, target: int) -> None:
        """Append the oldest message from one shard to another."""
        output = self.in_flight[writer, target].popleft()
        assert output.type is not None
        self.append(target, output.type, output.value)

    def run(self) -> None:
        """Deliver and apply until nothing is left."""
        while self._step():
            pass

    def _step(self) -> bool:
        moved = False
        for shard in self.shards:
            while shard.behind:
                self.apply(shard.config.partition)
                moved = True
        for (writer, target), waiting in self.in_flight.items():
            while waiting:
                self.deliver(writer, target)
                moved = True
        return moved

    def tick(self) -> None:
        """Append a tick for every shard and run."""
        for partition in range(self.partitions):
            self.append_tick(partition)
        self.run()

    def settle(self) -> None:
        """Append ticks and run until no shard has work due at the current time."""
        self.run()
        while due := [s for s in self.shards if self._needs_tick(s)]:
            for shard in due:
                self.append_tick(shard.config.partition)
            self.run()

    def _needs_tick(self, shard: HostedShard) -> bool:
        due = shard.machine.next_due_ms()
        return due is not None and due <= self.clock_ms

    # --- sending and running, for examples ---

    def do(self, **command: Any) -> dict[str, Any]:
        """Send a command, run, and return its newest result."""
        command_id = self.send(**command)
        self.run()
        return self.result(command_id)

    def change(self, user: str = ALICE, **fields: Any) -> dict[str, Any]:
        return self.do(type="change_memberships", user_id=user, **fields)

    def create(self, *segments: str, **fields: Any) -> dict[str, Any]:
        """Create segments; the result of the last."""
        return [self.do(type="create_segment", segment=s, **fields) for s in segments][-1]

    def delete(self, segment: str, **fields: Any) -> dict[str, Any]:
        return self.do(type="delete_segment", segment=segment, **fields)

    # --- looking ---

    def result(self, command_id: str) -> dict[str, Any]:
        return [r for r in self.results if r["command_id"] == command_id][-1]

    def results_of(self, command_id: str) -> list[dict[str, Any]]:
        return [r for r in self.results if r["command_id"] == command_id]

    def shard_of(self, key: str) -> HostedShard:
        return self.shards[partition_of(key, self.partitions)]

    def state(self, user: str = ALICE) -> StoredUser | None:
        """The internal document of a user."""
        found: StoredUser | None = self.shard_of(user).state.get(user_key(user))
        return found

    def memberships(self, user: str = ALICE) -> dict[str, int | None]:
        """The memberships in a user's public document: segment -> end."""
        document = self.shard_of(user).documents.get(user, {"segments": {}})
        return {name: held["expires_at"] for name, held in document["segments"].items()}

    def rows(self, **fields: Any) -> list[Row]:
        """History rows with these fields, in the order in which they were written."""
        return [r for r in self.history if all(getattr(r, f) == v for f, v in fields.items())]

    def check(self) -> None:
        """Check the final invariants of every shard."""
        for shard in self.shards:
            shard.check_documents()
            shard.check_replay()

    def due(self) -> Iterator[int | None]:
        return (shard.machine.next_due_ms() for shard in self.shards)
