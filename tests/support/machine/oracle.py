"""Reference implementation of a shard, as simple as possible.

A few dictionaries and loops over all of them; nothing derived is stored. It applies every record of
a shard's log and returns the expected results; its rows and users are compared with the machine's.
It has no slices, timers or jobs: a record settles its user at once, and a tick or a definition
settles every user.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from segments.contracts.partitioning import partition_of
from segments.state.machine.config import Config, LogRecord
from tests.support.machine.world import Row

HUNDRED_YEARS_MS = 36_525 * 24 * 3600 * 1000

Answer = dict[str, Any]
"""status, code, segments, changes, offset, at"""


@dataclass
class Membership:
    since: int
    end: int | None
    generation: int


@dataclass
class User:
    account: str = "unknown"
    version: int | None = None
    refresh: list[Any] | None = None
    held: dict[str, Membership] = field(default_factory=dict)
    answers: list[tuple[str, Answer]] = field(default_factory=list)
    queue: list[tuple[dict[str, Any], int]] = field(default_factory=list)


@dataclass
class Segment:
    """At home: what was decided. Elsewhere: what is known."""

    generation: int = 0
    version: int = 0
    alive: bool = False
    description: str | None = None
    created_at: int = 0
    answers: list[tuple[str, Answer]] = field(default_factory=list)


class Oracle:
    def __init__(self, config: Config) -> None:
        self.config = config
        self.now = 0
        self.offset = -1
        self.users: dict[str, User] = {}
        self.homes: dict[str, Segment] = {}
        self.known: dict[str, Segment] = {}
        self.deletions: dict[tuple[str, int], tuple[int, str, str | None]] = {}
        self.newest_from: dict[str, int] = {}
        self.rows: list[Row] = []
        self.refreshed: list[str] = []
        self.results: list[tuple[str, Answer]] = []
        self.touched: str | None = None
        self.repeats = 0
        self.defines: list[tuple[Segment, dict[str, Any], int]] = []

    def apply(self, record: LogRecord, decided: set[str]) -> list[tuple[str, Answer]]:
        """Apply a record; returns the expected results.

        `decided`: ids of the commands that the machine decided with this record; at a tick or a
        definition it may leave deferred commands for a later one.
        """
        self.results = []
        self.touched = None
        self.offset = record.offset
        if record.source is not None:
            origin, offset = record.source
            if offset <= self.newest_from.get(origin, -1):
                self.repeats += 1
                return []
            self.newest_from[origin] = offset
        self.now = max(self.now, record.append_time)
        value = record.value
        if record.type == "change":
            self._change(value)
        elif record.type == "user":
            self._user(value)
        elif record.type == "define":
            self._define(value)
            self._everybody(decided)
        elif record.type == "tick":
            self._everybody(decided)
        else:
            self._segment(record.type, value)
        return self.results

    def overdue(self) -> list[str]:
        """Users whose first deferred command could be executed."""
        return [
            user_id
            for user_id, user in self.users.items()
            for change, requested_at in user.queue[:1]
            if self.now >= requested_at + self.config.park_ms
            or not self._has_unknown_segment(change)
        ]

    # --- users ---

    def _everybody(self, decided: set[str]) -> None:
        for user_id, user in self.users.items():
            self._expire(user_id, user)
            if user.queue and user.queue[0][0]["id"] in decided:
                self._resume(user_id, user)

    def _settle(self, user_id: str, user: User) -> None:
        self.touched = user_id
        self._expire(user_id, user)
        self._resume(user_id, user)

    def _expire(self, user_id: str, user: User) -> None:
        ended: list[tuple[int, str, str, str | None, str | None]] = []
        for name, held in user.held.items():
            deleted = self.deletions.get((name, held.generation))
            if deleted is not None and (held.end is None or held.end > deleted[0]):
                ended.append((deleted[0], name, "segment_deleted", deleted[1], deleted[2]))
            elif held.end is not None and held.end <= self.now:
                ended.append((held.end, name, "expired", None, None))
        for at, name, cause, command_id, actor in sorted(ended, key=lambda e: e[:2]):
            self._remove(user_id, user, name, at, cause, command_id, actor)

    def _resume(self, user_id: str, user: User) -> None:
        while user.queue:
            change, requested_at = user.queue[0]
            if self.now < requested_at + self.config.park_ms and self._has_unknown_segment(change):
                return
            user.queue.pop(0)
            self._decide(user_id, user, change, requested_at)

    def _has_unknown_segment(self, change: dict[str, Any]) -> bool:
        return any(name not in self.known for name in names(change))

    def _change(self, change: dict[str, Any]) -> None:
        user_id = change["user_id"]
        if user_id not in self.users:
            if not self.config.accept_unknown_users:
                self._answer(change["id"], self._rejection("user_unknown", None))
                return
            self.users[user_id] = User()
            self.refreshed.append(user_id)
        user = self.users[user_id]
        self._settle(user_id, user)
        known = change["id"] in [command_id for command_id, _ in user.answers]
        if len(user.queue) >= self.config.parked_per_user and not known:
            self._decide(user_id, user, *user.queue.pop(0))
            self._resume(user_id, user)
        known = change["id"] in [command_id for command_id, _ in user.answers]
        waits = user.queue or self._has_unknown_segment(change)
        if waits and not known and user.account != "deleted":
            user.queue.append((change, self.now))
        else:
            self._decide(user_id, user, change, self.now)

    def _decide(self, user_id: str, user: User, change: dict[str, Any], requested_at: int) -> None:
        for command_id, answer in user.answers:
            if command_id == change["id"]:
                self._answer(command_id, answer)
                return
        rejected = self._reason_to_reject(user, change, requested_at)
        answer = rejected or self._carry_out(user_id, user, change, requested_at)
        user.answers.append((change["id"], answer))
        user.answers = user.answers[-self.config.remembered_ids :]
        self._answer(change["id"], answer)

    def _reason_to_reject(
        self, user: User, change: dict[str, Any], requested_at: int
    ) -> Answer | None:
        if user.account == "deleted":
            return self._rejection("user_deleted", None)
        unusable = [n for n in names(change) if n not in self.known or not self.known[n].alive]
        if unusable:
            return self._rejection("segment_unknown", unusable)
        ends = {name: end_of(ttl, end, requested_at) for name, ttl, end in change["add"]}
        late = [n for n, e in ends.items() if e is not None and e > self.now + HUNDRED_YEARS_MS]
        if late:
            return self._rejection("invalid", late)
        past = [name for name, end in ends.items() if end is not None and end <= self.now]
        if past:
            return self._rejection("already_expired", past)
        added = [name for name in ends if name not in user.held]
        kept = [name for name in user.held if name not in change["remove"]]
        if added and len(kept) + len(added) > self.config.segments_per_user:
            return self._rejection("too_many_segments", added)
        return None

    def _carry_out(
        self, user_id: str, user: User, change: dict[str, Any], requested_at: int
    ) -> Answer:
        changes = []
        why = ("command", change["id"], change.get("actor"))
        for name, ttl, expires_at in change["add"]:
            end = end_of(ttl, expires_at, requested_at)
            if name not in user.held:
                user.held[name] = Membership(self.now, end, self.known[name].generation)
                changes.append([name, "add"])
            elif user.held[name].end != end:
                user.held[name].end = end
                changes.append([name, "extend"])
            else:
                continue
            generation = user.held[name].generation
            self.rows.append(
                Row(user_id, name, generation, changes[-1][1], self.now, *why, expires_at=end)
            )
        for name in change["remove"]:
            if name in user.held:
                self._remove(user_id, user, name, self.now, *why)
                changes.append([name, "remove"])
        return self._outcome("applied" if changes else "unchanged", changes)

    def _remove(
        self,
        user_id: str,
        user: User,
        name: str,
        at: int,
        cause: str,
        command_id: str | None = None,
        actor: str | None = None,
    ) -> None:
        held = user.held.pop(name)
        self.rows.append(
            Row(user_id, name, held.generation, "remove", at, cause, command_id, actor, held.end)
        )

    def _user(self, record: dict[str, Any]) -> None:
        user = self.users.setdefault(record["user_id"], User())
        if self._is_old(user, record):
            return
        self._settle(record["user_id"], user)
        user.refresh, user.version = record["refresh"], record["version"]
        if record["account"] == "deleted" != user.account:
            for name in sorted(user.held):
                self._remove(record["user_id"], user, name, self.now, "user_deleted")
            waiting, user.queue = user.queue, []
            user.account = "deleted"
            for change, requested_at in waiting:
                self._decide(record["user_id"], user, change, requested_at)
        user.account = record["account"]

    def _is_old(self, user: User, record: dict[str, Any]) -> bool:
        *topic_and_partition, offset = record["refresh"]
        held = user.refresh
        if held is not None and held[:2] == topic_and_partition and offset < held[2]:
            return True
        versions = (record["version"], user.version)
        return None not in versions and versions[0] < versions[1]

    # --- segments ---

    def _segment(self, kind: str, command: dict[str, Any]) -> None:
        home = self.homes.setdefault(command["segment"], Segment())
        for command_id, answer in home.answers:
            if command_id == command["id"]:
                self._answer(command_id, answer)
                return
        answer = self._decide_segment(kind, home, command)
        home.answers.append((command["id"], answer))
        home.answers = home.answers[-self.config.remembered_ids :]
        self._answer(command["id"], answer)

    def _decide_segment(self, kind: str, home: Segment, command: dict[str, Any]) -> Answer:
        if kind == "create":
            if home.alive:
                return self._rejection("segment_exists", [command["segment"]])
            if self._segments_in_all() >= self.config.segments:
                return self._rejection("too_many_segments", None)
            home.generation += 1
            home.alive, home.created_at = True, self.now
            home.description = command.get("description")
        elif not home.alive:
            return self._rejection("segment_unknown", [command["segment"]])
        elif kind == "delete":
            home.alive = False
        elif command.get("description", home.description) == home.description:
            return self._outcome("unchanged", [])
        else:
            home.description = command["description"]
        home.version += 1
        self.defines.append((replace(home), command, self.offset))
        return self._outcome("applied", [])

    def _segments_in_all(self) -> int:
        here = sum(home.alive for home in self.homes.values())
        elsewhere = sum(
            partition_of(name, self.config.partitions) != self.config.partition
            for name, segment in self.known.items()
            if segment.alive
        )
        return here + elsewhere

    def _define(self, value: dict[str, Any]) -> None:
        known = self.known.get(value["segment"])
        if known is not None and value["version"] <= known.version:
            return
        alive = value["state"] == "active"
        self.known[value["segment"]] = Segment(value["generation"], value["version"], alive)
        if not alive:
            deletion = (self.now, value["command_id"], value["actor"])
            self.deletions[value["segment"], value["generation"]] = deletion

    # --- answers ---

    def _rejection(self, code: str, segments: list[str] | None) -> Answer:
        return self._outcome("rejected", [], code, segments)

    def _outcome(
        self,
        status: str,
        changes: list[list[str]],
        code: str | None = None,
        segments: list[str] | None = None,
    ) -> Answer:
        return {
            "status": status,
            "code": code,
            "segments": segments,
            "changes": changes,
            "offset": self.offset,
            "at": self.now,
        }

    def _answer(self, command_id: str, answer: Answer) -> None:
        self.results.append((command_id, answer))


def names(change: dict[str, Any]) -> list[str]:
    return [*(addition[0] for addition in change["add"]), *change["remove"]]


def end_of(ttl: int | None, expires_at: int | None, requested_at: int) -> int | None:
    return expires_at if ttl is None else requested_at + ttl
