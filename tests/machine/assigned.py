"""A world whose rounds of automatic assignment are judged by plain code.

When a shard answers a survey, the users that the rule lets through are told from the documents as
they stand; when the round is over, who got the segment must be those with the lowest ranks among
them, less those to whom something happened in between.
"""

from __future__ import annotations

import uuid
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import orjson
import xxhash

from segments.contracts.log import SELECTED, SURVEYED
from segments.state.documents import ASSIGNMENT_PREFIX, REPLICA_PREFIX, USER_PREFIX, bitmap
from segments.state.outputs import Output
from tests.machine.hosted import HostedShard
from tests.machine.world import World

Round = tuple[str, int, int]
"""(segment, generation, number)"""


def place(segment: str, generation: int, user: str) -> tuple[int, str]:
    """Rank and tie-break of a user, by the definition."""
    seed = xxhash.xxh3_64_intdigest(f"{segment}/{generation}".encode())
    identity = uuid.UUID(user)
    return xxhash.xxh3_64_intdigest(identity.bytes, seed), identity.hex


def rounded(rule: dict[str, Any], population: int) -> int:
    if rule["count"] is not None:
        return int(min(rule["count"], population))
    share = Decimal(rule["ppm"]) * population / 1_000_000
    return int(share.quantize(Decimal(1), ROUND_HALF_UP))


class AssignedWorld(World):
    """Judges every round when it ends."""

    def __init__(self, partitions: int = 1, **limits: Any) -> None:
        super().__init__(partitions, **limits)
        self.surveys: dict[Round, dict[int, set[str]]] = {}
        self.had: dict[Round, set[str]] = {}
        self.rules: dict[Round, dict[str, Any]] = {}
        self.finished: dict[Round, set[str]] = {}

    def apply(self, partition: int) -> list[Output]:
        outputs = super().apply(partition)
        for output in outputs:
            if output.type == SURVEYED:
                self._surveyed(self.shards[partition], orjson.loads(output.value))
            if output.type == SELECTED:
                self._selected(partition, orjson.loads(output.value))
        return outputs

    def _surveyed(self, shard: HostedShard, reply: dict[str, Any]) -> None:
        if "preview" in reply:
            return
        number = (reply["segment"], reply["generation"], reply["round"])
        rule = next(
            stored["rule"]
            for _, stored in shard.state.scan(ASSIGNMENT_PREFIX)
            if stored["segment"] == reply["segment"]
        )
        self.rules[number] = rule
        letting_in = {user for user, doc in users(shard) if lets_in(shard, rule, doc)}
        owning = {user for user, doc in users(shard) if holds(shard, reply["segment"], doc)}
        pinned = {
            user
            for user, doc in users(shard)
            if doc.get("pins", {}).get(reply["segment"]) == reply["generation"]
        }
        eligible = letting_in - owning - pinned
        assert reply["eligible"] == len(eligible)
        self.surveys.setdefault(number, {})[shard.config.partition] = eligible
        chosen_before = {
            user
            for user, doc in users(shard)
            if doc["segments"].get(reply["segment"], {}).get("origin") == "auto" and user in owning
        }
        self.had.setdefault(number, set()).update(chosen_before)

    def _selected(self, partition: int, reply: dict[str, Any]) -> None:
        number = (reply["segment"], reply["generation"], reply["round"])
        written = {
            row.user_id
            for row in self.rows(segment=number[0], generation=number[1], cause="auto")
            if self.shard_of(row.user_id).config.partition == partition
        }
        self.finished.setdefault(number, set()).update(written)

    def expected(self, number: Round) -> set[str]:
        """Whom a round had to choose."""
        eligible = set().union(*self.surveys[number].values())
        had = self.had[number]
        wanted = max(0, rounded(self.rules[number], len(eligible) + len(had)) - len(had))
        in_order = sorted(eligible, key=lambda user: place(number[0], number[1], user))
        return set(in_order[:wanted])

    def judge_rounds(self) -> None:
        """Every finished round gave the segment to those it had to, and to nobody else."""
        for number in self.finished:
            segment, generation, _ = number
            definition = self.definitions[segment]
            if definition["state"] == "deleted" or definition["generation"] != generation:
                continue
            expected, rows = self.expected(number), self._given(segment, generation)
            missing = expected - rows.keys()
            assert all(self._explained(segment, user) for user in missing), (number, missing)

        self._judge_rows()

    def _judge_rows(self) -> None:
        """Nobody was chosen whom no round had to choose."""
        chosen: dict[tuple[str, int], set[str]] = {}
        for number, surveys in self.surveys.items():
            if len(surveys) == self.partitions:
                chosen.setdefault(number[:2], set()).update(self.expected(number))
        for row in self.rows(cause="auto"):
            # A newcomer's row names no command.
            if row.command_id is not None:
                assert row.user_id in chosen[row.segment, row.generation], row

    def _given(self, segment: str, generation: int) -> dict[str, int]:
        rows = self.rows(segment=segment, generation=generation, operation="add", cause="auto")
        given: dict[str, int] = {}
        for row in rows:
            given[row.user_id] = given.get(row.user_id, 0) + 1
        # Automation gives a generation to a user once, whatever happens.
        assert all(count == 1 for count in given.values())
        return given

    def _explained(self, segment: str, user: str) -> bool:
        by_hand = self.rows(user_id=user, segment=segment, cause="command")
        document = self.state(user)
        assert document is not None
        return bool(
            by_hand
            or document["account"] == "deleted"
            or self.rows(user_id=user, cause="user_deleted")
            or len(document["segments"]) >= self.shards[0].config.segments_per_user
        )

    def judge_newcomers(self) -> None:
        """Whoever is let through, and stands before the threshold, has the segment or had it."""
        for shard in self.shards:
            for key, replica in shard.state.scan(REPLICA_PREFIX):
                known = replica.get("auto")
                if known is None or replica["state"] != "active":
                    continue
                if known["rule"]["newcomers"] and known["threshold"] is not None:
                    self._judge_newcomers(shard, key[1:].decode(), replica["generation"], known)

    def _judge_newcomers(
        self, shard: HostedShard, segment: str, generation: int, known: dict[str, Any]
    ) -> None:
        # Where a share comes to nobody, who was there when it was counted is no newcomer.
        counted = set()
        for number, surveys in self.surveys.items():
            if number[:2] == (segment, generation) and len(surveys) == self.partitions:
                counted |= set() if self.expected(number) else set().union(*surveys.values())
        for user, doc in users(shard):
            if user in counted or not lets_in(shard, known["rule"], doc):
                continue
            if place(segment, generation, user) > tuple(known["threshold"]):
                continue
            if len(doc["segments"]) >= shard.config.segments_per_user:
                continue
            pinned = doc.get("pins", {}).get(segment) == generation
            assert pinned or holds(shard, segment, doc), (segment, user)


def users(shard: HostedShard) -> list[tuple[str, dict[str, Any]]]:
    return [(key[1:].decode(), doc) for key, doc in shard.state.scan(USER_PREFIX)]


def usable(shard: HostedShard, segment: str) -> int | None:
    replica = dict(shard.state.scan(REPLICA_PREFIX)).get(REPLICA_PREFIX + segment.encode())
    return None if replica is None or replica["state"] == "deleted" else replica["generation"]


def holds(shard: HostedShard, segment: str, doc: dict[str, Any]) -> bool:
    """Whether a user has a segment, written or decided."""
    generation = usable(shard, segment)
    if generation is None:
        return False
    held = doc["segments"].get(segment)
    if held is not None and held["generation"] == generation:
        return True
    return any(
        stored["segment"] == segment and doc["ordinal"] in bitmap(stored["pending"])
        for _, stored in shard.state.scan(ASSIGNMENT_PREFIX)
    )


def lets_in(shard: HostedShard, rule: dict[str, Any], doc: dict[str, Any]) -> bool:
    if doc["account"] not in rule["accounts"]:
        return False
    if rule["include"] and not any(holds(shard, name, doc) for name in rule["include"]):
        return False
    return not any(holds(shard, name, doc) for name in rule["exclude"])
