"""Enrollment of users that become eligible after a round, up to its threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segments.state.machine import ranks
from segments.state.machine.assignment import Write, membership_from
from segments.state.machine.context import ShardContext
from segments.state.machine.documents import KnownRule, StoredUser
from segments.state.machine.eligibility import is_eligible, same_filters
from segments.state.machine.memberships import Step
from segments.state.machine.outputs import Reason
from segments.state.machine.population import Population

if TYPE_CHECKING:
    from segments.state.machine.assignment import Assignments
    from segments.state.machine.segments import SegmentDecisions


class Enrollment:
    """Enrolls users whose documents change; keeps no state of its own."""

    def __init__(
        self,
        context: ShardContext,
        segments: SegmentDecisions,
        population: Population,
        assignments: Assignments,
    ) -> None:
        self._context = context
        self._segments = segments
        self._population = population
        self._assignments = assignments

    def enroll(self, user_id: str, user: StoredUser, write: Write) -> None:
        """Enroll a settled user in every segment it newly qualifies for."""
        joined = True
        while joined:
            joined = False
            # Joining a segment may make the user eligible for another one.
            for segment, known in sorted(self._segments.joinable.items()):
                joined |= self._join(user_id, user, segment, known, write)

    def _join(
        self, user_id: str, user: StoredUser, segment: str, known: KnownRule, write: Write
    ) -> bool:
        generation, ordinal = self._segments.usable[segment], user["ordinal"]
        running = self._assignments.running(segment)
        if running is not None:
            self._assignments.remove_late(running, ordinal)
        if not self._assignments.can_assign(user, segment, generation) or not is_eligible(
            user, known["rule"], self._segments.usable
        ):
            return False
        threshold = known["threshold"]
        seed = ranks.seed_of(segment, generation)
        place = ranks.place_of(seed, self._population.id_bytes(ordinal))
        if threshold is not None and list(place) <= threshold:
            now = self._context.shard["log_time"]
            after = membership_from(now, generation, known["rule"]["ttl_ms"])
            write(user_id, user, Step(segment, "add", None, after), Reason(now, "auto"))
            return True
        if running is not None and running["stage"] != "selected":
            self._assignments.add_late(running, ordinal)
        return False

    def filters_updated(self, segment: str, before: KnownRule | None) -> None:
        """Apply a definition; `before` is the rule known previously."""
        known = self._segments.joinable.get(segment)
        if known is None or known["threshold"] is None:
            return  # New users may not join, or a running round is to set the threshold.
        if before is None or not same_filters(before["rule"], known["rule"]):
            self._assignments.add_eligible(segment, known)

    def segment_deleted(self, segment: str) -> None:
        """A deleted segment no longer excludes any user."""
        for name, known in sorted(self._segments.joinable.items()):
            if segment in known["rule"]["exclude"]:
                self._assignments.add_eligible(name, known)
