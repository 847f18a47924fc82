"""The oracle of memberships over the log of a real deployment.

Wraps tests/support/machine/oracle.py: reads records as consumed from Kafka and returns the
expected contents of topics and stores.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from segments.contracts.log import DEFINE
from segments.state.machine.config import Config, LogRecord
from tests.support.crash.topic_tails import Entry
from tests.support.machine.oracle import Answer, Oracle, names

Row = dict[str, Any]
"""A history row; times in milliseconds."""


class _Everything(set[str]):
    """Contains every id: a tick decides all deferred commands that it can, without slices."""

    def __contains__(self, _: object) -> bool:
        return True


class ShardOracle:
    """The expected outputs of one shard, from the records of its log in order."""

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition = partition
        self.results: list[Row] = []
        self._oracle = Oracle(Config(partition, partitions))

    def apply(self, entry: Entry) -> None:
        """Apply a record of the log."""
        source = entry.headers.get("src")
        origin, _, offset = (source or b"").decode().rpartition(":")
        record = LogRecord(
            entry.headers["type"].decode(),
            entry.json,
            entry.offset,
            entry.timestamp_ms,
            None if source is None else (origin, int(offset)),
        )
        decided = self._woken(record.value) if record.type == DEFINE else _Everything()
        for command_id, answer in self._oracle.apply(record, decided):
            self.results.append({"command_id": command_id, **self._outcome(answer)})

    def _woken(self, definition: dict[str, Any]) -> set[str]:
        """Ids of the deferred commands that only waited for this definition.

        Overdue ones are rejected by the next tick or by the next record of the user.
        """
        known = self._oracle.known.keys() | {definition["segment"]}
        return {
            user.queue[0][0]["id"]
            for user in self._oracle.users.values()
            if user.queue and definition["segment"] in (named := names(user.queue[0][0]))
            if known.issuperset(named)
        }

    def _outcome(self, answer: Answer) -> Row:
        error = {"code": answer["code"], "segments": answer["segments"]}
        return {
            "status": answer["status"],
            "error": None if answer["code"] is None else error,
            "changes": answer["changes"],
            "position": f"{self.partition}:{answer['offset']}",
            "at": answer["at"],
        }

    @property
    def repeats(self) -> int:
        """How many records were redelivered."""
        return self._oracle.repeats

    @property
    def rows(self) -> dict[str, list[Row]]:
        """History rows by user."""
        found: dict[str, list[Row]] = {}
        for row in self._oracle.rows:
            found.setdefault(row.user_id, []).append(row._asdict())
        return found

    @property
    def defines(self) -> list[dict[str, Any]]:
        """Definitions that this shard sent to every shard, as the home of their segments."""
        return [
            {
                "segment": command["segment"],
                "generation": home.generation,
                "version": home.version,
                "state": "active" if home.alive else "deleted",
                "description": home.description,
                "created_at": home.created_at,
                "auto": None,
                "position": f"{self.partition}:{offset}",
                "command_id": command["id"],
                "actor": command.get("actor"),
            }
            for home, command, offset in self._oracle.defines
        ]

    def documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The public document of each user."""
        for user_id, user in self._oracle.users.items():
            segments = {
                name: {
                    "since": held.since,
                    "expires_at": held.end,
                    "origin": "command",
                    "generation": held.generation,
                }
                for name, held in user.held.items()
            }
            yield user_id, {"account": user.account, "segments": segments}
