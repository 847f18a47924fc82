"""A shard's part in automatic assignment: counting, selecting and writing.

The selection takes effect at one log position, that of `select`; writing it is spread over ticks. A
user touched by another record earlier is settled first, so the delay is not observable.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from segments.contracts.auto import AutoRule
from segments.contracts.log import REFINED, SELECTED, SURVEYED
from segments.state.machine import ranks
from segments.state.machine.context import ShardContext
from segments.state.machine.documents import (
    ASSIGNMENT_PREFIX,
    AssignmentState,
    KnownRule,
    MembershipState,
    StoredUser,
    assignment_key,
    bitmap,
    known_segment_key,
)
from segments.state.machine.memberships import Step
from segments.state.machine.outputs import Reason
from segments.state.machine.population import MemberKey, Population

if TYPE_CHECKING:
    from segments.state.machine.segments import SegmentDecisions

Write = Callable[[str, StoredUser, Step, Reason], None]
"""Change one membership of a user, with its history row."""


class Assignments:
    """The rounds that this shard takes part in, one per segment."""

    def __init__(
        self,
        context: ShardContext,
        segments: SegmentDecisions,
        population: Population,
    ) -> None:
        self._context = context
        self._segments = segments
        self._population = population
        self._rounds: dict[str, AssignmentState] = {}
        self._order: list[tuple[int, str]] = []
        for _, stored in context.state.scan(ASSIGNMENT_PREFIX):
            for name in ("candidates", "pending", "late"):
                stored[name] = bitmap(stored[name])
            self._rounds[stored["segment"]] = stored
        self._sort()

    def _sort(self) -> None:
        """One order of all rounds, the same before and after a restart."""
        self._order = sorted((a["at"], a["segment"]) for a in self._rounds.values())

    def _in_order(self) -> Iterator[AssignmentState]:
        return (self._rounds[segment] for _, segment in self._order)

    def _put(self, assignment: AssignmentState) -> None:
        key = assignment_key(assignment["segment"], assignment["generation"])
        self._context.state.put(key, assignment)

    def _remove(self, assignment: AssignmentState) -> None:
        del self._rounds[assignment["segment"]]
        self._context.state.delete(assignment_key(assignment["segment"], assignment["generation"]))
        self._sort()

    # --- messages from the segment's home ---

    def survey(self, value: dict[str, Any]) -> None:
        """Count eligible users as soon as nothing is due at the log time."""
        segment, generation = value["segment"], value["generation"]
        if self._segments.usable.get(segment) != generation:
            return  # deleted since: no reply is expected
        assignment = self._new(segment, generation, value["round"], value["rule"])
        # Late users of the previous rule are evaluated against the new one.
        running = self._rounds.get(segment)
        if running is not None:
            assignment["late"] = running["late"]
        self._add(assignment)

    def add_eligible(self, segment: str, known: KnownRule) -> None:
        """Filters now admit other users: enroll those up to the threshold."""
        key = (segment, self._segments.usable[segment])
        found = self._population.eligible(known["rule"], key, self.members_of)
        running = self._rounds.get(segment)
        if running is None or running["stage"] == "selected":
            found = self._up_to(found, key, known["threshold"])
        else:
            found -= running["candidates"]
        if not found:
            return
        if running is None:
            running = self._new(*key, 0, known["rule"])
            running["stage"] = "selected"
            self._add(running)
        running["late"] |= found
        self._put(running)

    def _new(self, segment: str, generation: int, number: int, rule: AutoRule) -> AssignmentState:
        return AssignmentState(
            segment=segment,
            generation=generation,
            round=number,
            stage="asked",
            rule=rule,
            candidates=BitMap(),
            pending=BitMap(),
            late=BitMap(),
            threshold=None,
            at=self._context.shard["log_time"],
            assigned=0,
            skipped=0,
            command_id=None,
            actor=None,
        )

    def _add(self, assignment: AssignmentState) -> None:
        self._rounds[assignment["segment"]] = assignment
        self._put(assignment)
        self._sort()

    def reply_to_surveys(self) -> None:
        """Reply to deferred surveys. Only when nothing is due: expired members would count."""
        for assignment in list(self._in_order()):
            if assignment["stage"] == "asked":
                self._answer(assignment)

    def _answer(self, assignment: AssignmentState) -> None:
        segment, key = assignment["segment"], _key(assignment)
        candidates = self._population.eligible(assignment["rule"], key, self.members_of)
        _, ranked = self._population.ranked(candidates, ranks.seed_of(*key))
        assignment["candidates"], assignment["stage"] = candidates, "surveyed"
        assignment["late"] -= candidates
        self._put(assignment)
        reply = {
            "eligible": len(candidates),
            "members": self._population.chosen_count(key),
            "histogram": ranks.histogram(ranked),
        }
        self._reply(SURVEYED, segment, _identity(assignment) | reply)

    def members_of(self, segment: str) -> BitMap:
        """Members of a segment, including assignments not yet written."""
        generation = self._segments.usable.get(segment)
        if generation is None:
            return BitMap()
        key = (segment, generation)
        members: BitMap = self._population.members(key)
        running = self._rounds.get(segment)
        if running is None or not running["pending"]:
            return members
        ttl_ms = running["rule"]["ttl_ms"]
        if ttl_ms is not None and running["at"] + ttl_ms <= self._context.shard["log_time"]:
            return members  # the pending memberships have already expired
        pending: BitMap = running["pending"] - self._population.opted_out(key)
        return members | pending

    def refine(self, value: dict[str, Any]) -> None:
        """Reply with the places of the candidates in one bucket."""
        assignment = self._current(value, "surveyed")
        if assignment is None:
            return
        numbers, ranked = self._population.ranked(
            assignment["candidates"], ranks.seed_of(*_key(assignment))
        )
        inside = ranks.in_bucket(ranked, value["bucket"])
        places = [
            [int(rank), self._population.id_bytes(int(number)).hex()]
            for number, rank in zip(numbers[inside], ranked[inside], strict=True)
        ]
        self._reply(REFINED, assignment["segment"], _identity(assignment) | {"places": places})

    def select(self, value: dict[str, Any]) -> None:
        """Assign the segment to candidates up to the chosen place, as of this log position."""
        assignment = self._current(value, "surveyed")
        if assignment is None:
            return
        assignment["pending"] = self._up_to(
            assignment["candidates"], _key(assignment), value["chosen"]
        )
        assignment["candidates"] = BitMap()
        assignment["stage"] = "selected"
        assignment["threshold"] = value["threshold"]
        assignment["at"] = self._context.shard["log_time"]
        assignment["command_id"], assignment["actor"] = value["command_id"], value["actor"]
        self._sort()
        self._put(assignment)
        key = known_segment_key(assignment["segment"])
        known_segment = self._context.state.get(key)
        known_segment["auto"]["threshold"] = value["threshold"]
        self._context.state.put(key, known_segment)
        self._segments.set_rule(assignment["segment"], known_segment["auto"])

    def _up_to(self, candidates: BitMap, key: MemberKey, last: list[Any] | None) -> BitMap:
        """The candidates up to and including a place; none for None."""
        if last is None:
            return BitMap()
        numbers, ranked = self._population.ranked(candidates, ranks.seed_of(*key))
        rank, user = last
        if rank < 0:
            return BitMap()
        chosen = BitMap(numbers[ranked < rank])
        for number in numbers[ranked == rank].tolist():
            if self._population.id_bytes(number).hex() <= user:
                chosen.add(number)
        return chosen

    def _current(self, value: dict[str, Any], stage: str) -> AssignmentState | None:
        """The round that a message belongs to, unless it is over."""
        assignment = self._rounds.get(value["segment"])
        if (
            assignment is None
            or assignment["stage"] != stage
            or assignment["generation"] != value["generation"]
            or assignment["round"] != value["round"]
        ):
            return None
        return assignment

    def drop(self, segment: str, generation: int) -> None:
        """Discard the pending work of a deleted generation."""
        assignment = self._rounds.get(segment)
        if assignment is not None and assignment["generation"] <= generation:
            self._remove(assignment)
        self._population.drop_opted_out((segment, generation))

    # --- work of ticks ---

    @property
    def count(self) -> int:
        """Number of rounds in progress."""
        return len(self._rounds)

    @property
    def oldest_at(self) -> int | None:
        """Log time (ms) of the oldest round in progress, or None."""
        return self._order[0][0] if self._order else None

    @property
    def has_work(self) -> bool:
        """Whether a tick would have work to do once nothing is due."""
        return any(a["stage"] != "surveyed" for a in self._rounds.values())

    def next_user(self) -> int | None:
        """The next ordinal to settle, oldest round first; completes finished rounds."""
        for assignment in list(self._in_order()):
            if assignment["stage"] != "selected":
                continue
            waiting = assignment["pending"] or assignment["late"]
            if waiting:
                ordinal: int = waiting.min()
                return ordinal
            if assignment["round"]:
                counts = {name: assignment[name] for name in ("assigned", "skipped")}
                self._reply(SELECTED, assignment["segment"], _identity(assignment) | counts)
            self._remove(assignment)
        return None

    def first_pending_at(self) -> int | None:
        """Earliest log time (ms) of a membership not written yet."""
        return min((a["at"] for a in self._rounds.values() if a["pending"]), default=None)

    # --- one user ---

    def of(self, user: StoredUser) -> list[AssignmentState]:
        """Rounds with a pending assignment of this user, oldest first."""
        if not self._rounds:
            return []
        return [a for a in self._in_order() if user["ordinal"] in a["pending"]]

    def running(self, segment: str) -> AssignmentState | None:
        """The round of a segment, or None."""
        return self._rounds.get(segment)

    def assign(
        self, user_id: str, user: StoredUser, assignment: AssignmentState, write: Write
    ) -> bool:
        """Write a pending assignment of a user; returns whether the user was assigned."""
        assignment["pending"].discard(user["ordinal"])
        self._put(assignment)
        segment, generation = _key(assignment)
        assigned = self.can_assign(user, segment, generation)
        if assigned:
            reason = Reason(assignment["at"], "auto", assignment["command_id"], assignment["actor"])
            after = membership_from(assignment["at"], generation, assignment["rule"]["ttl_ms"])
            write(user_id, user, Step(segment, "add", None, after), reason)
        held = user["segments"].get(segment)
        # The user may have been enrolled during the round.
        chosen = held is not None and held["origin"] == "auto"
        assignment["assigned" if chosen else "skipped"] += 1
        return assigned

    def can_assign(self, user: StoredUser, segment: str, generation: int) -> bool:
        """Whether a user admitted by the filters can be assigned: account, opt-out, limit."""
        return (
            user["account"] != "deleted"
            and segment not in user["segments"]
            and user.get("pins", {}).get(segment) != generation
            and len(user["segments"]) < self._context.config.segments_per_user
        )

    def add_late(self, assignment: AssignmentState, ordinal: int) -> None:
        """Remember a user that became eligible before the round has set its threshold."""
        if ordinal not in assignment["candidates"] and ordinal not in assignment["late"]:
            assignment["late"].add(ordinal)
            self._put(assignment)

    def remove_late(self, assignment: AssignmentState, ordinal: int) -> None:
        """Drop a late user; it is being evaluated now."""
        if ordinal in assignment["late"]:
            assignment["late"].discard(ordinal)
            self._put(assignment)

    def _reply(self, message_type: str, key: str, value: dict[str, Any]) -> None:
        value["partition"] = self._context.config.partition
        self._context.send_home(key, message_type, value)


def _key(assignment: AssignmentState) -> MemberKey:
    return assignment["segment"], assignment["generation"]


def _identity(assignment: AssignmentState) -> dict[str, Any]:
    return {name: assignment[name] for name in ("segment", "generation", "round")}


def membership_from(at_ms: int, generation: int, ttl_ms: int | None) -> MembershipState:
    """An automatic membership that starts at `at_ms`."""
    return MembershipState(
        since=at_ms,
        expires_at=None if ttl_ms is None else at_ms + ttl_ms,
        origin="auto",
        generation=generation,
    )
