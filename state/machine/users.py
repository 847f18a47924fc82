"""Decides commands about users; applies expiries, deferred commands and account states."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segments.contracts.log import CHANGE, USER
from segments.state.machine import memberships, outputs
from segments.state.machine.context import Handler, ShardContext
from segments.state.machine.deduplication import recall, remember
from segments.state.machine.documents import (
    DeferredChange,
    MembershipState,
    StoredUser,
    new_user,
    user_key,
)
from segments.state.machine.enrollment import Enrollment
from segments.state.machine.memberships import Ending, Rejection, Step
from segments.state.machine.outputs import Reason
from segments.state.machine.population import MemberKey, Population, segments_in

if TYPE_CHECKING:
    from segments.state.machine.assignment import Assignments
    from segments.state.machine.segments import SegmentDecisions


class UserDecisions:
    """Applies records to users' documents; a document is settled before anything else."""

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
        self.enrollment = Enrollment(context, segments, population, assignments)
        self._changed = False

    # --- records ---

    def handlers(self) -> dict[str, Handler]:
        """The handler of each record type about a user."""
        return {CHANGE: self.change, USER: self.user_state}

    def change(self, change: dict[str, Any]) -> None:
        """Apply a `change` record, or defer it until its segments are known."""
        user_id = change["user_id"]
        user: StoredUser | None = self._context.state.get(user_key(user_id))
        if not self._context.config.accept_unknown_users and (
            user is None or user["account"] == "unknown"
        ):
            rejection = Rejection("user_unknown", "the user is not in the replica")
            self._context.reply(change, self._context.rejected(rejection))
            return
        if user is None:
            user = self._new_user(user_id)
            self._context.outputs.append(outputs.refresh(self._context.config.partition, user_id))
        self._settle(user_id, user)
        if change["id"] not in user["outcomes"]:
            self._limit_deferred(user_id, user)
        if (first := recall(user["outcomes"], change["id"])) is not None:
            self._context.reply(change, first)
        elif user["account"] != "deleted" and (user["parked"] or self._unknown_segments(change)):
            self._defer(user, change)
        else:
            self._execute(user_id, user, change, self._context.shard["log_time"])
        self._save(user_id, user)

    def user_state(self, record: dict[str, Any]) -> None:
        """Apply a `user` record unless the document holds a newer state."""
        user_id, account, version = record["user_id"], record["account"], record["version"]
        user: StoredUser | None = self._context.state.get(user_key(user_id))
        if user is None:
            user = self._new_user(user_id)
        elif memberships.is_stale(user, version, record["refresh"]):
            return
        self._settle(user_id, user)
        user["refresh"], user["version"] = record["refresh"], version
        if user["account"] != account:
            self._population.set_account(user["ordinal"], user["account"], account)
            user["account"] = account
            self._changed = True
            self._publish(user_id, user)
            if account == "deleted":
                self._end_everything(user_id, user)
        self._save(user_id, user)

    # --- work of ticks: at most `budget` users; returns the remaining budget ---

    def settle_due(self, budget: int) -> int:
        """Settle users whose memberships or deadlines are due."""
        now = self._context.shard["log_time"]
        while budget > 0:
            ordinal = self._population.timers.first_due(now)
            if ordinal is None:
                break
            self._settle_and_save(ordinal)
            budget -= 1
        return budget

    def resume_deferred(self, budget: int) -> int:
        """Execute deferred commands whose segments are known by now."""
        ready = self._population.ready
        while budget > 0 and ready:
            self._settle_and_save(ready.min())
            budget -= 1
        return budget

    def end_members(self, key: MemberKey, budget: int) -> int:
        """Remove members of a deleted generation by ordinal; returns how many."""
        ended = 0
        while ended < budget:
            ordinal = self._population.first_member(key)
            if ordinal is None:
                break
            self._settle_and_save(ordinal)
            ended += 1
        return ended

    def settle_assigned(self, ordinal: int) -> None:
        """Settle a user chosen by a round, or one that became eligible during it."""
        self._changed = True
        self._settle_and_save(ordinal)

    def _settle_and_save(self, ordinal: int) -> None:
        user_id = self._population.user_id(ordinal)
        user: StoredUser = self._context.state.get(user_key(user_id))
        self._settle(user_id, user)
        self._save(user_id, user)

    # --- one document ---

    def _new_user(self, user_id: str) -> StoredUser:
        ordinal = self._context.shard["next_ordinal"]
        self._context.shard["next_ordinal"] = ordinal + 1
        self._population.add_user(ordinal, user_id)
        user = new_user(ordinal)
        self._population.set_account(ordinal, None, user["account"])
        self._changed = True
        self._publish(user_id, user)
        return user

    def _save(self, user_id: str, user: StoredUser) -> None:
        if self._changed and self._segments.joinable:
            self.enrollment.enroll(user_id, user, self._write)
        self._changed = False
        self._context.state.put(user_key(user_id), user)
        due = memberships.due_ms(user)
        if due != user["due"]:
            user["due"] = due
            self._population.timers.set(user["ordinal"], due)

    def _publish(self, user_id: str, user: StoredUser) -> None:
        user["offset"], user["at"] = self._context.shard["offset"], self._context.shard["log_time"]
        self._context.state.publish(user_id)

    def _settle(self, user_id: str, user: StoredUser) -> None:
        """Write assignments and expiries, oldest first; then execute deferred commands."""
        due = user["due"]
        for assignment in self._assignments.of(user):
            # An older generation of the same segment may still be there.
            self._end_up_to(assignment["at"], due, user_id, user)
            if self._assignments.assign(user_id, user, assignment, self._write):
                due = memberships.due_ms(user)
        self._end_up_to(self._context.shard["log_time"], due, user_id, user)
        self._resume(user_id, user)

    def _end_up_to(self, until: int, due: int | None, user_id: str, user: StoredUser) -> None:
        if (due is not None and due <= until) or self._segments.has_jobs:
            for ending in memberships.endings(user, until, self._segments.deleted_at):
                if ending.at <= until:
                    self._end(user_id, user, ending)

    def _end(self, user_id: str, user: StoredUser, ending: Ending) -> None:
        held = user["segments"][ending.segment]
        reason = Reason(ending.at, "expired")
        if ending.cause == "segment_deleted":
            job = self._segments.job_of(ending.segment, held["generation"])
            assert job is not None, "only a job reports a deleted generation"
            reason = Reason(ending.at, "segment_deleted", job["command_id"], job["actor"])
        self._write(user_id, user, Step(ending.segment, "remove", held, None), reason)

    def _end_everything(self, user_id: str, user: StoredUser) -> None:
        reason = Reason(self._context.shard["log_time"], "user_deleted")
        for segment in sorted(user["segments"]):
            step = Step(segment, "remove", user["segments"][segment], None)
            self._write(user_id, user, step, reason)
        while user["parked"]:
            self._execute_first_deferred(user_id, user)

    def _write(self, user_id: str, user: StoredUser, step: Step, reason: Reason) -> None:
        segment, operation, before, after = step
        shown = after or before
        assert shown is not None, "a step has a before, an after, or both"
        key = (segment, shown["generation"])
        if after is None:
            del user["segments"][segment]
            self._population.remove_member(key, user["ordinal"])
            self._opt_out_lost(user, segment, shown, reason)
        else:
            user["segments"][segment] = after
            self._population.add_member(key, user["ordinal"], chosen=after["origin"] == "auto")
        self._changed = True
        self._context.shard["history_rows"] += 1
        self._context.outputs.append(
            outputs.history_row(
                self._context.config.partition, user_id, segment, operation, shown, reason
            )
        )
        self._publish(user_id, user)

    def _opt_out_lost(
        self, user: StoredUser, segment: str, before: MembershipState, reason: Reason
    ) -> None:
        """Opt a user out of a generation after it loses an automatic membership."""
        lost = before["origin"] == "auto" and reason.cause != "segment_deleted"
        if lost and self._segments.usable.get(segment) == before["generation"]:
            self._opt_out(user, segment)

    def _opt_out_removed(self, user: StoredUser, segments: list[str]) -> None:
        """A removal by command overrides automation, even before the segment was assigned."""
        for segment in segments:
            if segment in self._segments.automatic:
                self._opt_out(user, segment)

    def _opt_out(self, user: StoredUser, segment: str) -> None:
        usable = self._segments.usable
        pins = {
            name: generation
            for name, generation in user.get("pins", {}).items()
            if usable.get(name) == generation
        }
        user["pins"] = pins | {segment: usable[segment]}
        self._population.opt_out((segment, usable[segment]), user["ordinal"])

    # --- commands ---

    def _unknown_segments(self, change: dict[str, Any]) -> set[str]:
        known_segments = self._segments.known_segments
        return {name for name in segments_in(change) if name not in known_segments}

    def _limit_deferred(self, user_id: str, user: StoredUser) -> None:
        # The queue is bounded: its oldest command is executed as if its deadline had passed.
        if len(user["parked"]) >= self._context.config.parked_per_user:
            self._execute_first_deferred(user_id, user)
            self._resume(user_id, user)

    def _resume(self, user_id: str, user: StoredUser) -> None:
        now = self._context.shard["log_time"]
        while user["parked"]:
            first = user["parked"][0]
            if first["deadline"] > now and self._unknown_segments(first["change"]):
                break
            self._execute_first_deferred(user_id, user)

    def _defer(self, user: StoredUser, change: dict[str, Any]) -> None:
        now = self._context.shard["log_time"]
        parked = DeferredChange(
            change=change,
            offset=self._context.shard["offset"],
            at=now,
            deadline=now + self._context.config.park_ms,
        )
        user["parked"].append(parked)
        if len(user["parked"]) == 1:
            self._population.await_segments(user["ordinal"], self._unknown_segments(change))

    def _execute_first_deferred(self, user_id: str, user: StoredUser) -> None:
        parked = user["parked"].pop(0)
        self._population.stop_waiting(user["ordinal"], segments_in(parked["change"]))
        first = recall(user["outcomes"], parked["change"]["id"])
        if first is not None:
            self._context.reply(parked["change"], first)
        else:
            self._execute(user_id, user, parked["change"], parked["at"])
        if user["parked"]:
            self._population.await_segments(
                user["ordinal"], self._unknown_segments(user["parked"][0]["change"])
            )

    def _execute(
        self, user_id: str, user: StoredUser, change: dict[str, Any], requested_at: int
    ) -> None:
        now = self._context.shard["log_time"]
        plan = memberships.plan_change(
            user,
            change,
            self._segments.usable,
            requested_at=requested_at,
            now=now,
            max_segments=self._context.config.segments_per_user,
        )
        if isinstance(plan, Rejection):
            outcome = self._context.rejected(plan)
        else:
            self._apply(user_id, user, change, plan)
            changes = [[step.segment, step.operation] for step in plan]
            outcome = self._context.outcome("applied" if plan else "unchanged", changes)
        remember(user["outcomes"], change["id"], outcome, self._context.config.remembered_ids)
        self._context.reply(change, outcome)

    def _apply(
        self, user_id: str, user: StoredUser, change: dict[str, Any], steps: list[Step]
    ) -> None:
        now = self._context.shard["log_time"]
        reason = Reason(now, "command", change["id"], change.get("actor"), change.get("trace"))
        for step in steps:
            self._write(user_id, user, step, reason)
        self._opt_out_removed(user, change["remove"])
