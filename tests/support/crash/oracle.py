"""What must follow from a shard's log, said again in plain code of its own.

Where the service spreads work over ticks (ends that are due, members of a deleted segment), this
does it at once: what is written down, and in which order for each user, must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.support.crash.tails import Entry

PARK_MS = 5_000
PARKED_MAX = 64
REMEMBERED = 64

Row = dict[str, Any]
"""A history row; instants in milliseconds."""


@dataclass
class User:
    account: str = "unknown"
    version: int | None = None
    refresh: list[Any] | None = None
    segments: dict[str, dict[str, Any]] = field(default_factory=dict)
    outcomes: dict[str, Row] = field(default_factory=dict)
    parked: list[dict[str, Any]] = field(default_factory=list)


class ShardOracle:
    """One shard. Feed it the records of its log in order; read what came of them."""

    def __init__(self, partition: int) -> None:
        self.partition = partition
        self.users: dict[str, User] = {}
        self.homes: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, list[Row]] = {}
        self.results: list[Row] = []
        self.defines: list[dict[str, Any]] = []
        self.asked_for: list[str] = []
        self.repeats = 0
        self._heard: dict[str, dict[str, Any]] = {}
        self._sources: dict[str, int] = {}
        self._now = 0
        self._offset = -1

    def apply(self, entry: Entry) -> None:
        source = entry.headers.get("src")
        if source is not None:
            origin, _, offset = source.decode().rpartition(":")
            if int(offset) <= self._sources.get(origin, -1):
                self.repeats += 1
                return
            self._sources[origin] = int(offset)
        self._now = max(self._now, entry.timestamp_ms)
        self._offset = entry.offset
        kind = entry.headers["type"].decode()
        getattr(self, f"_on_{kind}")(entry.json)

    # --- what a record does ---

    def _on_tick(self, _: Any) -> None:
        for user_id in list(self.users):
            self._settle(user_id)

    def _on_change(self, change: dict[str, Any]) -> None:
        user_id, command_id = change["user_id"], change["id"]
        if user_id not in self.users:
            self.asked_for.append(user_id)
        user = self.users.setdefault(user_id, User())
        self._settle(user_id)
        if command_id not in user.outcomes and len(user.parked) >= PARKED_MAX:
            self._unpark(user_id)
            self._settle(user_id)
        if command_id in user.outcomes:
            self._reply(command_id, user.outcomes[command_id])
        elif user.account != "deleted" and (user.parked or self._unheard(change)):
            user.parked.append({"change": change, "at": self._now})
        else:
            self._decide(user_id, change, self._now)

    def _on_user(self, state: dict[str, Any]) -> None:
        user_id, refresh, version = state["user_id"], state["refresh"], state["version"]
        user = self.users.get(user_id)
        if user is None:
            user = self.users[user_id] = User()
        else:
            held = user.refresh
            if held is not None and held[:2] == refresh[:2] and refresh[2] < held[2]:
                return
            older = None not in (version, user.version) and version < user.version
            if older and state["account"] != "deleted":
                return
            self._settle(user_id)
        user.refresh, user.version = refresh, version
        was, user.account = user.account, state["account"]
        if user.account == "deleted" and was != "deleted":
            for segment in sorted(user.segments):
                self._write(user_id, segment, "remove", self._now, "user_deleted", {})
            while user.parked:
                self._unpark(user_id)

    def _on_define(self, define: dict[str, Any]) -> None:
        segment = define["segment"]
        known = self._heard.get(segment)
        if known is not None and define["version"] <= known["version"]:
            return
        self._heard[segment] = define
        if define["state"] == "deleted":
            for user_id, user in self.users.items():
                if user.segments.get(segment, {}).get("generation") == define["generation"]:
                    self._end(user_id)
                    if segment in user.segments:
                        self._write(
                            user_id, segment, "remove", self._now, "segment_deleted", define
                        )
        for user_id, user in self.users.items():
            first = user.parked[0]["change"] if user.parked else None
            if first is not None and segment in _names(first) and not self._unheard(first):
                self._settle(user_id)

    def _on_create(self, command: dict[str, Any]) -> None:
        home = self._home(command)
        if home["state"] != "deleted":
            self._home_outcome(command, _error("segment_exists", [command["segment"]]))
            return
        changes = {
            "generation": home["generation"] + 1,
            "state": "active",
            "description": command.get("description"),
            "created_at": self._now,
        }
        self._home_outcome(command, None, changes)

    def _on_update(self, command: dict[str, Any]) -> None:
        home = self._home(command)
        if home["state"] == "deleted":
            self._home_outcome(command, _error("segment_unknown", [command["segment"]]))
        elif command.get("description", home["description"]) == home["description"]:
            self._home_outcome(command, None)
        else:
            self._home_outcome(command, None, {"description": command["description"]})

    def _on_delete(self, command: dict[str, Any]) -> None:
        if self._home(command)["state"] == "deleted":
            self._home_outcome(command, _error("segment_unknown", [command["segment"]]))
        else:
            self._home_outcome(command, None, {"state": "deleted"})

    def _home(self, command: dict[str, Any]) -> dict[str, Any]:
        undefined = {"generation": 0, "version": 0, "state": "deleted", "outcomes": {}}
        name = {"segment": command["segment"]}
        return self.homes.setdefault(command["segment"], name | undefined)

    def _home_outcome(
        self, command: dict[str, Any], error: Row | None, changes: dict[str, Any] | None = None
    ) -> None:
        command_id, home = command["id"], self._home(command)
        if command_id in home["outcomes"]:
            self._reply(command_id, home["outcomes"][command_id])
            return
        outcome = self._outcome(error, [], applied=changes is not None)
        self._reply(command_id, outcome)
        _remember(home["outcomes"], command_id, outcome)
        if changes is not None:
            home |= changes | {"version": home["version"] + 1}
            public = {name: value for name, value in home.items() if name != "outcomes"}
            public |= {"auto": None, "position": f"{self.partition}:{self._offset}"}
            self.defines.append(public | {"command_id": command_id, "actor": command.get("actor")})

    # --- one user ---

    def _settle(self, user_id: str) -> None:
        self._end(user_id)
        user = self.users[user_id]
        while user.parked:
            first = user.parked[0]
            if first["at"] + PARK_MS > self._now and self._unheard(first["change"]):
                return
            self._unpark(user_id)

    def _end(self, user_id: str) -> None:
        held = self.users[user_id].segments
        due = [
            (one["expires_at"], segment)
            for segment, one in held.items()
            if one["expires_at"] is not None and one["expires_at"] <= self._now
        ]
        for at, segment in sorted(due):
            self._write(user_id, segment, "remove", at, "expired", {})

    def _unpark(self, user_id: str) -> None:
        user = self.users[user_id]
        first = user.parked.pop(0)
        command_id = first["change"]["id"]
        if command_id in user.outcomes:
            self._reply(command_id, user.outcomes[command_id])
        else:
            self._decide(user_id, first["change"], first["at"])

    def _unheard(self, change: dict[str, Any]) -> bool:
        return any(name not in self._heard for name in _names(change))

    def _decide(self, user_id: str, change: dict[str, Any], asked_at: int) -> None:
        user = self.users[user_id]
        error = self._refusal(user, change, asked_at)
        changes: list[list[str]] = []
        if error is None:
            for segment, ttl_ms, expires_at in change["add"]:
                end = asked_at + ttl_ms if ttl_ms is not None else expires_at
                held = user.segments.get(segment)
                if held is None or held["expires_at"] != end:
                    operation = "add" if held is None else "extend"
                    self._put(user, segment, end)
                    self._write(user_id, segment, operation, self._now, "command", change)
                    changes.append([segment, operation])
            for segment in change["remove"]:
                if segment in user.segments:
                    self._write(user_id, segment, "remove", self._now, "command", change)
                    changes.append([segment, "remove"])
        outcome = self._outcome(error, changes, applied=bool(changes))
        _remember(user.outcomes, change["id"], outcome)
        self._reply(change["id"], outcome)

    def _refusal(self, user: User, change: dict[str, Any], asked_at: int) -> Row | None:
        if user.account == "deleted":
            return _error("user_deleted")
        unusable = [n for n in _names(change) if self._heard.get(n, _GONE)["state"] == "deleted"]
        if unusable:
            return _error("segment_unknown", unusable)
        ends = {s: e if t is None else asked_at + t for s, t, e in change["add"]}
        past = [segment for segment, end in ends.items() if end is not None and end <= self._now]
        return _error("already_expired", past) if past else None

    def _put(self, user: User, segment: str, end: int | None) -> None:
        held = user.segments.get(segment)
        user.segments[segment] = {
            "since": self._now if held is None else held["since"],
            "expires_at": end,
            "origin": "command",
            "generation": self._heard[segment]["generation"],
        }

    def _write(
        self, user_id: str, segment: str, operation: str, at: int, cause: str, by: dict[str, Any]
    ) -> None:
        segments = self.users[user_id].segments
        held = segments.pop(segment) if operation == "remove" else segments[segment]
        self.rows.setdefault(user_id, []).append(
            {
                "user_id": user_id,
                "segment": segment,
                "generation": held["generation"],
                "operation": operation,
                "at": at,
                "cause": cause,
                "command_id": by.get("command_id", by.get("id")),
                "actor": by.get("actor"),
                "expires_at": held["expires_at"],
            }
        )

    # --- answers ---

    def _outcome(self, error: Row | None, changes: list[list[str]], *, applied: bool) -> Row:
        return {
            "status": "rejected" if error else "applied" if applied else "unchanged",
            "error": error,
            "changes": changes,
            "position": f"{self.partition}:{self._offset}",
            "at": self._now,
        }

    def _reply(self, command_id: str, outcome: Row) -> None:
        self.results.append({"command_id": command_id, **outcome})

    def documents(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """What others may know of each user."""
        for user_id, user in self.users.items():
            yield user_id, {"account": user.account, "segments": user.segments}


_GONE = {"state": "deleted"}


def _names(change: dict[str, Any]) -> list[str]:
    return [addition[0] for addition in change["add"]] + change["remove"]


def _error(code: str, segments: list[str] | None = None) -> Row:
    return {"code": code, "segments": segments}


def _remember(outcomes: dict[str, Row], command_id: str, outcome: Row) -> None:
    outcomes[command_id] = outcome
    while len(outcomes) > REMEMBERED:
        del outcomes[next(iter(outcomes))]
