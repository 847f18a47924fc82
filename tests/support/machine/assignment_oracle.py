"""Reference implementation of automatic assignment in one shard.

It reads every record of a shard's log and all outputs, in order. It takes memberships from history
rows, accounts and removals from records, and selects users by plain sorting; it never reads the
shard's documents. Every automatic row must be expected here, and every expected row written.
"""

from __future__ import annotations

import uuid
from collections import Counter
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

import orjson
import xxhash

from segments.contracts.log import CHANGE, DEFINE, SELECT, SELECTED, SURVEYED, USER
from segments.state.machine.config import Config, LogRecord
from tests.support.machine.hosted_shard import Produced
from tests.support.machine.world import Row, row_of

Rule = dict[str, Any]
Place = tuple[int, str]
LAST: Place = (2**64 - 1, "f" * 32)


def place(segment: str, generation: int, user: str) -> Place:
    """Rank and tie-break of a user, by the definition."""
    seed = xxhash.xxh3_64_intdigest(f"{segment}/{generation}".encode())
    identity = uuid.UUID(user)
    return xxhash.xxh3_64_intdigest(identity.bytes, seed), identity.hex


def rounded(rule: Rule, population: int) -> int:
    if rule["count"] is not None:
        return int(min(rule["count"], population))
    share = Decimal(rule["ppm"]) * population / 1_000_000
    return int(share.quantize(Decimal(1), ROUND_HALF_UP))


class Held(NamedTuple):
    generation: int
    end: int | None
    by_automation: bool


class PendingAssignment(NamedTuple):
    """Assignment of a selected user that may not be written yet."""

    at: int
    segment: str
    generation: int
    end: int | None
    command_id: str
    actor: str | None


@dataclass
class Person:
    account: str = "unknown"
    held: dict[str, Held] = field(default_factory=dict)
    opted_out: set[tuple[str, int]] = field(default_factory=set)
    decided: set[str] = field(default_factory=set)
    pending: list[PendingAssignment] = field(default_factory=list)
    expected: list[PendingAssignment] = field(default_factory=list)
    """Pending assignments that will be written the next time the user is settled."""


@dataclass
class Known:
    generation: int
    rule: Rule | None
    threshold: Place | None


class AssignmentOracle:
    """Oracle of one shard; raises AssertionError on a difference."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.now = 0
        self.people: dict[str, Person] = {}
        self.known: dict[str, Known] = {}
        self.deleted: dict[tuple[str, int], int] = {}
        self.candidates: dict[str, set[str]] = {}
        self.counts: dict[str, Counter[str]] = {}
        self.changes: dict[str, dict[str, Any]] = {}
        self._record: LogRecord

    # --- a record and its outputs ---

    def apply(self, record: LogRecord, outputs: list[Produced]) -> None:
        self.now = max(self.now, record.append_time)
        self._record = record
        value = record.value
        if record.type in (CHANGE, USER) and value["user_id"] in self.people:
            self._decide_pending(self.people[value["user_id"]])
        touched = self._before(record, outputs)
        for output in outputs:
            if output.topic == "segments.history":
                row = row_of(output.value)
                self._row(row)
                touched.add(row.user_id)
            elif output.topic == "segments.results":
                self._result(orjson.loads(output.value))
            elif output.type == SURVEYED:
                self._surveyed(orjson.loads(output.value))
            elif output.type == SELECTED:
                self._selected(orjson.loads(output.value))
        for user in touched:
            assert self.missing(user) == [], user

    def _before(self, record: LogRecord, outputs: list[Produced]) -> set[str]:
        """Apply the record; returns users whose documents it changes without a history row."""
        value = record.value
        if record.type == CHANGE:
            user, known = value["user_id"], value["user_id"] in self.people
            if known or self.config.accept_unknown_users:
                self.people.setdefault(user, Person())
                self.changes.setdefault(value["id"], value)
                return set() if known else {user}
        elif record.type == USER:
            person = self.people.setdefault(value["user_id"], Person())
            changes = person.account != value["account"]
            person.account = value["account"]
            return {value["user_id"]} if changes else set()
        elif record.type == DEFINE:
            self._define(value)
        elif record.type == SELECT:
            self._select(value)
        return set()

    # --- segments ---

    def _define(self, value: dict[str, Any]) -> None:
        segment, generation = value["segment"], value["generation"]
        if value["state"] == "deleted":
            self.known.pop(segment, None)
            self.deleted[segment, generation] = self.now
            self.candidates.pop(segment, None)
            for person in self.people.values():
                for waiting in (person.pending, person.expected):
                    waiting[:] = [o for o in waiting if o[1:3] != (segment, generation)]
            return
        known = value.get("known") or {"rule": None, "threshold": None}
        threshold = known["threshold"]
        self.known[segment] = Known(
            generation, known["rule"], None if threshold is None else tuple(threshold)
        )

    def _surveyed(self, reply: dict[str, Any]) -> None:
        """Check a survey reply: it counts exactly the users that the rule admits now."""
        if "preview" in reply:
            return
        segment, generation = reply["segment"], reply["generation"]
        rule = self.known[segment].rule
        assert rule is not None
        eligible = {
            user
            for user, person in self.people.items()
            if self.is_eligible(rule, person)
            and not self._holds(person, segment, generation)
            and (segment, generation) not in person.opted_out
        }
        assert reply["eligible"] == len(eligible)
        ranks = Counter(place(segment, generation, user)[0] >> 52 for user in eligible)
        assert {n: count for n, count in enumerate(reply["histogram"]) if count} == ranks
        assert reply["members"] == sum(
            self._holds(person, segment, generation) and person.held[segment].by_automation
            for person in self.people.values()
        )
        self.candidates[segment] = eligible

    def preview_count(self, rule: Rule) -> int:
        return sum(self.is_eligible(rule, person) for person in self.people.values())

    def _select(self, value: dict[str, Any]) -> None:
        """From now on the candidates up to the selected place are members."""
        segment, generation = value["segment"], value["generation"]
        if segment not in self.candidates:
            return  # deleted since
        known = self.known[segment]
        assert known.rule is not None
        known.threshold = None if value["threshold"] is None else tuple(value["threshold"])
        ttl_ms = known.rule["ttl_ms"]
        end = None if ttl_ms is None else self.now + ttl_ms
        pending = PendingAssignment(
            self.now, segment, generation, end, value["command_id"], value["actor"]
        )
        self.counts[segment] = Counter()
        for user in self.candidates.pop(segment):
            chosen = value["chosen"]
            if chosen is not None and place(segment, generation, user) <= tuple(chosen):
                self.people[user].pending.append(pending)

    def _selected(self, reply: dict[str, Any]) -> None:
        """Check the reply sent once all assignments are written."""
        segment = reply["segment"]
        for user, person in self.people.items():
            if any(pending.segment == segment for pending in person.pending):
                self._decide_pending(person)
            assert all(pending.segment != segment for pending in person.expected), user
        counts = self.counts.pop(segment)
        assert (reply["assigned"], reply["skipped"]) == (counts["assigned"], counts["skipped"])

    # --- users ---

    def _decide_pending(self, person: Person) -> None:
        """Decide the pending assignments of a user, who has not been settled since."""
        held = dict(person.held)
        for pending in sorted(person.pending):
            self._end(held, pending.at)
            before = held.get(pending.segment)
            if (
                before is not None
                or person.account == "deleted"
                or pending[1:3] in person.opted_out
                or len(held) >= self.config.segments_per_user
            ):
                joined = before is not None and before.by_automation
                self.counts[pending.segment]["assigned" if joined else "skipped"] += 1
            else:
                held[pending.segment] = Held(pending.generation, pending.end, by_automation=True)
                person.expected.append(pending)
                self.counts[pending.segment]["assigned"] += 1
        person.pending = []

    def _end(self, held: dict[str, Held], until: int) -> None:
        for name, (generation, end, _) in list(held.items()):
            deleted_at = self.deleted.get((name, generation))
            if (end is not None and end <= until) or (
                deleted_at is not None and deleted_at <= until
            ):
                del held[name]

    def _row(self, row: Row) -> None:
        person = self.people[row.user_id]
        if person.pending:
            self._decide_pending(person)
        if row.operation == "remove":
            held = person.held.pop(row.segment)
            assert held.generation == row.generation
            if held.by_automation and row.cause != "segment_deleted":
                self._opt_out(person, row.segment, row.generation)
        elif row.operation == "extend":
            held = person.held[row.segment]
            person.held[row.segment] = held._replace(end=row.expires_at)
        else:
            assert row.segment not in person.held
            if row.cause == "auto":
                self._check_assigned(row, person)
            person.held[row.segment] = Held(row.generation, row.expires_at, row.cause == "auto")

    def _check_assigned(self, row: Row, person: Person) -> None:
        """An automatic row results from a selection (with a command id) or an enrollment."""
        if row.command_id is not None:
            pending = person.expected.pop(0)
            assert pending == (
                row.at, row.segment, row.generation, row.expires_at, row.command_id, row.actor
            )  # fmt: skip
            return
        assert row.at == self.now
        assert self._may_join(row.user_id, person, row.segment)
        known = self.known[row.segment]
        assert known.rule is not None
        assert known.generation == row.generation
        ttl_ms = known.rule["ttl_ms"]
        assert row.expires_at == (None if ttl_ms is None else self.now + ttl_ms)

    def _result(self, result: dict[str, Any]) -> None:
        change = self.changes.get(result["command_id"])
        if change is None or change["user_id"] not in self.people:
            return
        person = self.people[change["user_id"]]
        if change["id"] not in person.decided:
            person.decided.add(change["id"])
            if result["status"] != "rejected":
                for segment in change["remove"]:
                    self._opt_out(person, segment, self.known[segment].generation)

    def _opt_out(self, person: Person, segment: str, generation: int) -> None:
        known = self.known.get(segment)
        if known is not None and known.rule is not None and known.generation == generation:
            person.opted_out.add((segment, generation))

    # --- eligibility ---

    def is_eligible(self, rule: Rule, person: Person) -> bool:
        """Whether a rule's filters admit a person; pending assignments count as memberships."""
        if person.account not in rule["accounts"]:
            return False
        has = {name for name in (*rule["include"], *rule["exclude"]) if self._has(person, name)}
        if rule["include"] and not has.intersection(rule["include"]):
            return False
        return not has.intersection(rule["exclude"])

    def _has(self, person: Person, segment: str) -> bool:
        known = self.known.get(segment)
        if known is None:
            return False
        if self._holds(person, segment, known.generation):
            return True
        return any(
            pending[1:3] == (segment, known.generation)
            and pending[1:3] not in person.opted_out
            and (pending.end is None or pending.end > self.now)
            for pending in (*person.pending, *person.expected)
        )

    def _holds(self, person: Person, segment: str, generation: int) -> bool:
        held = person.held.get(segment)
        if held is None or held.generation != generation:
            return False
        return held.end is None or held.end > self.now

    def _may_join(self, user: str, person: Person, segment: str) -> bool:
        known = self.known[segment]
        return (
            known.rule is not None
            and bool(known.rule["newcomers"])
            and known.threshold is not None
            and place(segment, known.generation, user) <= known.threshold
            and person.account != "deleted"
            and segment not in person.held
            and (segment, known.generation) not in person.opted_out
            and len(person.held) < self.config.segments_per_user
            and self.is_eligible(known.rule, person)
        )

    def missing(self, user: str) -> list[str]:
        """Segments that a user who was just settled should have joined but has not."""
        person = self.people[user]
        if person.pending or person.expected:
            return []
        return [segment for segment in self.known if self._may_join(user, person, segment)]
