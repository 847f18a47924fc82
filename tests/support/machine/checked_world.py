"""A `World` that compares every shard with an oracle, record by record."""

from __future__ import annotations

from typing import Any

import orjson

from segments.contracts.times import to_rfc3339
from segments.state.machine.documents import USER_PREFIX, StoredUser, user_key
from tests.support.machine.hosted_shard import HostedShard, Produced
from tests.support.machine.oracle import Oracle, User
from tests.support.machine.world import Row, World


class CheckedWorld(World):
    """Compares results at every record, users when they are settled, rows in `compare_all`."""

    def __init__(self, partitions: int = 1, **limits: Any) -> None:
        super().__init__(partitions, **limits)
        self.oracles = [Oracle(shard.config) for shard in self.shards]

    def apply(self, partition: int) -> list[Produced]:
        shard, oracle = self.shards[partition], self.oracles[partition]
        record = shard.record(shard.applied)
        outputs = super().apply(partition)
        results = [_parse_result(o.value) for o in outputs if o.topic == "segments.results"]
        answers = oracle.apply(record, {result["command_id"] for result in results})
        expected = [self._result(partition, *answer) for answer in answers]
        if record.type in ("tick", "define"):
            results, expected = _by_id(results), _by_id(expected)
        assert results == expected
        if oracle.touched is not None:
            self._compare_user(shard, oracle, oracle.touched)
        return outputs

    def _result(self, partition: int, command_id: str, answer: dict[str, Any]) -> dict[str, Any]:
        return {
            "command_id": command_id,
            "status": answer["status"],
            "error": answer["code"],
            "segments": answer["segments"],
            "changes": [{"segment": s, "operation": o} for s, o in answer["changes"]],
            "position": f"{partition}:{answer['offset']}",
            "at": to_rfc3339(answer["at"]),
        }

    def _compare_user(self, shard: HostedShard, oracle: Oracle, user: str) -> None:
        state: StoredUser | None = shard.state.get(user_key(user))
        expected = oracle.users.get(user)
        if state is None or expected is None:
            assert state is None
            assert expected is None
            return
        assert state["account"] == expected.account
        assert (state["version"], state["refresh"]) == (expected.version, expected.refresh)
        assert _held(state) == {n: (h.since, h.end, h.generation) for n, h in expected.held.items()}
        assert list(state["outcomes"]) == [command_id for command_id, _ in expected.answers]
        waiting = [(parked["change"], parked["at"]) for parked in state["parked"]]
        assert waiting == expected.queue

    def compare_views(self) -> None:
        """Compare the memberships in effect, without expired and deleted ones; valid any time."""
        for shard, oracle in zip(self.shards, self.oracles, strict=True):
            for user, expected in oracle.users.items():
                seen = {
                    name: (since, end, generation)
                    for name, (since, end, generation) in _held(
                        shard.state.get(user_key(user))
                    ).items()
                    if (end is None or end > oracle.now)
                    and (name, generation) not in oracle.deletions
                }
                assert seen == _alive(expected, oracle)

    def compare_all(self) -> None:
        """Compare all users, rows and segments after enough ticks; no command is overdue."""
        for partition, (shard, oracle) in enumerate(zip(self.shards, self.oracles, strict=True)):
            assert shard.machine.jobs == 0
            assert not oracle.overdue()
            population = shard.machine.population
            if not any(expected.queue for expected in oracle.users.values()):
                assert not population.ready
                assert not population._waiting
                assert not population._missing_counts
            users = [key[1:].decode() for key, _ in shard.state.scan(USER_PREFIX)]
            assert sorted(users) == sorted(oracle.users)
            for user in users:
                self._compare_user(shard, oracle, user)
            rows = [row for row in self.history if row.user_id in oracle.users]
            assert _rows(rows) == _rows(oracle.rows)
            self._compare_segments(shard, oracle)
            refreshed = [r["user_id"] for r in self.refreshes if r["user_id"] in oracle.users]
            assert refreshed == oracle.refreshed, partition

    def _compare_segments(self, shard: HostedShard, oracle: Oracle) -> None:
        for name, home in oracle.homes.items():
            if home.version == 0:
                assert name not in self.definitions
                continue
            definition = dict(self.definitions[name])
            definition.pop("position")
            assert definition == {
                "segment": name,
                "generation": home.generation,
                "version": home.version,
                "state": "active" if home.alive else "deleted",
                "description": home.description,
                "created_at": home.created_at,
                "auto": None,
            }
        usable = {n: s.generation for n, s in oracle.known.items() if s.alive}
        assert shard.machine.segments.usable == usable


def _parse_result(value: bytes) -> dict[str, Any]:
    result: dict[str, Any] = orjson.loads(value)
    error = result["error"] or {}
    return result | {"error": error.get("code"), "segments": error.get("segments")}


def _by_id(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(results, key=lambda result: result["command_id"])


def _held(state: StoredUser) -> dict[str, tuple[int, int | None, int]]:
    return {
        name: (held["since"], held["expires_at"], held["generation"])
        for name, held in state["segments"].items()
    }


def _alive(expected: User, oracle: Oracle) -> dict[str, tuple[int, int | None, int]]:
    return {
        name: (held.since, held.end, held.generation)
        for name, held in expected.held.items()
        if (held.end is None or held.end > oracle.now)
        and (name, held.generation) not in oracle.deletions
    }


def _rows(rows: list[Row]) -> dict[tuple[str, str], list[Row]]:
    """Rows of each user and segment in time order."""
    found: dict[tuple[str, str], list[Row]] = {}
    at: dict[str, int] = {}
    for row in rows:
        assert row.at >= at.get(row.user_id, 0), "rows of a user in the order of their instants"
        at[row.user_id] = row.at
        found.setdefault((row.user_id, row.segment), []).append(row)
    return found
