"""A shard's part in automatic assignment: it counts, writes, and lets newcomers in.

The decision falls at one log position, that of `select`; the writing is spread over ticks. Whoever
is touched by a record before its turn is settled first, so nobody can tell the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from segments.contracts.log import REFINED, SELECTED, SURVEYED
from segments.contracts.partitioning import partition_of
from segments.state import outputs, ranks
from segments.state.documents import (
    ASSIGNMENT_PREFIX,
    AssignmentState,
    KnownRule,
    MembershipState,
    ShardState,
    State,
    UserState,
    assignment_key,
    bitmap,
    replica_key,
)
from segments.state.eligibility import is_eligible
from segments.state.membership import Step
from segments.state.outputs import Output, Reason
from segments.state.population import MemberKey, Population

if TYPE_CHECKING:
    from segments.state.segment_decisions import SegmentDecisions
    from segments.state.shard import Config

Write = Callable[[str, UserState, Step, Reason], None]
"""Change one membership of a user, with its history row."""


class Assignments:
    """The rounds that this shard takes part in, one a segment."""

    def __init__(
        self,
        config: Config,
        state: State,
        shard: ShardState,
        out: list[Output],
        segments: SegmentDecisions,
        population: Population,
    ) -> None:
        self._config = config
        self._state = state
        self._shard = shard
        self._out = out
        self._segments = segments
        self._population = population
        self._rounds: dict[str, AssignmentState] = {}
        self._order: list[tuple[int, str]] = []
        for _, stored in state.scan(ASSIGNMENT_PREFIX):
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
        self._state.put(key, assignment)

    def _remove(self, assignment: AssignmentState) -> None:
        del self._rounds[assignment["segment"]]
        self._state.delete(assignment_key(assignment["segment"], assignment["generation"]))
        self._sort()

    # --- what the home asks ---

    def survey(self, value: dict[str, Any]) -> None:
        """Count whom the rule lets through, as soon as nothing is due at the log time."""
        if "preview" in value:
            eligible = self._population.eligible(value["rule"], None, self._members_of)
            reply = {"preview": value["preview"], "eligible": len(eligible)}
            self._reply(SURVEYED, value["preview"], reply)
            return
        segment, generation = value["segment"], value["generation"]
        if self._segments.usable.get(segment) != generation:
            return  # deleted since: nobody waits for an answer
        self._rounds[segment] = assignment = AssignmentState(
            segment=segment,
            generation=generation,
            round=value["round"],
            stage="asked",
            rule=value["rule"],
            candidates=BitMap(),
            pending=BitMap(),
            late=BitMap(),
            threshold=None,
            at=self._shard["log_time"],
            assigned=0,
            skipped=0,
            command_id=None,
            actor=None,
        )
        self._put(assignment)
        self._sort()

    def answer(self) -> None:
        """Answer the surveys that wait; only when nothing is due, or ends would be counted in."""
        for assignment in list(self._in_order()):
            if assignment["stage"] == "asked":
                self._answer(assignment)

    def _answer(self, assignment: AssignmentState) -> None:
        segment, key = assignment["segment"], _key(assignment)
        candidates = self._population.eligible(assignment["rule"], key, self._members_of)
        _, ranked = self._population.ranked(candidates, ranks.seed_of(*key))
        assignment["candidates"], assignment["stage"] = candidates, "surveyed"
        self._put(assignment)
        reply = {
            "eligible": len(candidates),
            "members": self._population.chosen_count(key),
            "histogram": ranks.histogram(ranked),
        }
        self._reply(SURVEYED, segment, _identity(assignment) | reply)

    def _members_of(self, segment: str) -> BitMap:
        """Who has a segment, also those for whom it is still to be written."""
        generation = self._segments.usable.get(segment)
        if generation is None:
            return BitMap()
        members = self._population.members((segment, generation))
        running = self._rounds.get(segment)
        return members if running is None else members | running["pending"]

    def refine(self, value: dict[str, Any]) -> None:
        """Tell the places of the candidates in one bucket."""
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
        """From this log position on the candidates up to the chosen place have the segment."""
        assignment = self._current(value, "surveyed")
        if assignment is None:
            return
        assignment["pending"] = self._chosen(assignment, value["chosen"])
        assignment["candidates"] = BitMap()
        assignment["stage"] = "selected"
        assignment["threshold"] = value["threshold"]
        assignment["at"] = self._shard["log_time"]
        assignment["command_id"], assignment["actor"] = value["command_id"], value["actor"]
        self._sort()
        self._put(assignment)
        key = replica_key(assignment["segment"])
        replica = self._state.get(key)
        replica["auto"]["threshold"] = value["threshold"]
        self._state.put(key, replica)
        self._segments.know_rule(assignment["segment"], replica["auto"])

    def _chosen(self, assignment: AssignmentState, last: list[Any] | None) -> BitMap:
        if last is None:
            return BitMap()
        numbers, ranked = self._population.ranked(
            assignment["candidates"], ranks.seed_of(*_key(assignment))
        )
        rank, user = last
        chosen = BitMap(numbers[ranked < rank])
        for number in numbers[ranked == rank].tolist():
            if self._population.id_bytes(number).hex() <= user:
                chosen.add(number)
        return chosen

    def _current(self, value: dict[str, Any], stage: str) -> AssignmentState | None:
        """The round that a message is about, unless it is over."""
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
        """A generation is deleted: whatever was still to be written of it never will be."""
        assignment = self._rounds.get(segment)
        if assignment is not None and assignment["generation"] <= generation:
            self._remove(assignment)
        self._population.forget_pins((segment, generation))

    # --- work of ticks ---

    @property
    def count(self) -> int:
        """Rounds on their way."""
        return len(self._rounds)

    @property
    def has_work(self) -> bool:
        """Whether a tick would find something to do, once nothing is due."""
        return any(a["stage"] != "surveyed" for a in self._rounds.values())

    def next_user(self) -> int | None:
        """The ordinal whose turn it is, the oldest round first; rounds with nobody left end."""
        for assignment in list(self._in_order()):
            if assignment["stage"] != "selected":
                continue
            waiting = assignment["pending"] or assignment["late"]
            if waiting:
                ordinal: int = waiting.min()
                return ordinal
            self._reply(
                SELECTED,
                assignment["segment"],
                _identity(assignment)
                | {"assigned": assignment["assigned"], "skipped": assignment["skipped"]},
            )
            self._remove(assignment)
        return None

    def first_pending_at(self) -> int | None:
        """The earliest instant of a membership that is not written yet."""
        return min((a["at"] for a in self._rounds.values() if a["pending"]), default=None)

    # --- one user ---

    def of(self, user: UserState) -> list[AssignmentState]:
        """The rounds that have chosen a user and have not been written for it, oldest first."""
        if not self._rounds:
            return []
        return [a for a in self._in_order() if user["ordinal"] in a["pending"]]

    def give(
        self, user_id: str, user: UserState, assignment: AssignmentState, write: Write
    ) -> bool:
        """Write what a round has decided about a user; False when something is in the way."""
        assignment["pending"].discard(user["ordinal"])
        self._put(assignment)
        segment, generation = _key(assignment)
        given = self._can_be_given(user, segment, generation)
        assignment["assigned" if given else "skipped"] += 1
        if given:
            reason = Reason(assignment["at"], "auto", assignment["command_id"], assignment["actor"])
            after = _membership(assignment["rule"]["ttl_ms"], generation, assignment["at"])
            write(user_id, user, Step(segment, "add", None, after), reason)
        return given

    def _can_be_given(self, user: UserState, segment: str, generation: int) -> bool:
        return (
            user["account"] != "deleted"
            and segment not in user["segments"]
            and user.get("pins", {}).get(segment) != generation
            and len(user["segments"]) < self._config.segments_per_user
        )

    def let_in(self, user_id: str, user: UserState, write: Write) -> None:
        """Give a user the segments whose newcomers it is among now."""
        joined = True
        while joined:
            joined = False
            # A segment joined may let the user through the filter of another one.
            for segment, known in sorted(self._segments.joinable.items()):
                joined |= self._join(user_id, user, segment, known, write)

    def _join(
        self, user_id: str, user: UserState, segment: str, known: KnownRule, write: Write
    ) -> bool:
        generation = self._segments.usable[segment]
        running = self._rounds.get(segment)
        if running is not None:
            running["late"].discard(user["ordinal"])
            self._put(running)
        if not self._can_be_given(user, segment, generation) or not is_eligible(
            user, known["rule"], self._segments.usable
        ):
            return False
        threshold = known["threshold"]
        place = ranks.place_of(
            ranks.seed_of(segment, generation), self._population.id_bytes(user["ordinal"])
        )
        if threshold is not None and list(place) <= threshold:
            now = self._shard["log_time"]
            after = _membership(known["rule"]["ttl_ms"], generation, now)
            write(user_id, user, Step(segment, "add", None, after), Reason(now, "auto"))
            return True
        if running is not None and running["stage"] != "selected":
            # The threshold is about to be found, or to be raised.
            running["late"].add(user["ordinal"])
        return False

    def _reply(self, kind: str, key: str, value: dict[str, Any]) -> None:
        value["partition"] = self._config.partition
        home = partition_of(key, self._config.partitions)
        self._out.append(outputs.message(home, key, kind, value))


def _key(assignment: AssignmentState) -> MemberKey:
    return assignment["segment"], assignment["generation"]


def _identity(assignment: AssignmentState) -> dict[str, Any]:
    return {name: assignment[name] for name in ("segment", "generation", "round")}


def _membership(ttl_ms: int | None, generation: int, at_ms: int) -> MembershipState:
    return MembershipState(
        since=at_ms,
        expires_at=None if ttl_ms is None else at_ms + ttl_ms,
        origin="auto",
        generation=generation,
    )
