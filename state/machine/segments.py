"""Decides commands about segments in their home shard; applies them in every other shard."""

from __future__ import annotations

import heapq
import sys
from collections.abc import Callable
from typing import Any

from segments.contracts.documents import ResultStatus
from segments.contracts.log import (
    CREATE,
    DEFINE,
    DELETE,
    REFINED,
    SELECT,
    SELECTED,
    SURVEYED,
    UPDATE,
)
from segments.contracts.partitioning import partition_of
from segments.state.machine import assignment_coordinator, definitions, outputs
from segments.state.machine.context import Handler, ShardContext
from segments.state.machine.deduplication import recall, remember
from segments.state.machine.documents import (
    HOME_PREFIX,
    KNOWN_SEGMENT_PREFIX,
    DeletionJob,
    HomeState,
    KnownRule,
    KnownSegment,
    home_key,
    job_key,
    known_segment_key,
)
from segments.state.machine.memberships import Rejection

Decide = Callable[[HomeState, dict[str, Any]], Rejection | HomeState]
"""(home document, command) -> a rejection, or the document after the command."""
RoundStep = Callable[
    [str, HomeState, dict[str, Any], int], assignment_coordinator.RoundMessage | None
]
"""(segment, home document, reply, partitions) -> the next message to every shard, if any."""


class SegmentDecisions:
    """Definitions and deletions of a shard.

    `usable`: generation of every active segment. `known_segments`: every name ever defined.
    `automatic`: usable segments with a rule. `joinable`: those of them that new users may join.
    """

    def __init__(self, context: ShardContext) -> None:
        self._context = context
        self.jobs: dict[tuple[str, int], DeletionJob] = {}
        self._jobs_in_order: list[tuple[int, str, int]] = []
        self.usable: dict[str, int] = {}
        self.joinable: dict[str, KnownRule] = {}
        self.automatic: set[str] = set()
        self.known_segments: set[str] = set()
        self._active_elsewhere = 0
        for key, known_segment in context.state.scan(KNOWN_SEGMENT_PREFIX):
            self._register_definition(key[1:].decode(), known_segment)
        homes = (home for _, home in context.state.scan(HOME_PREFIX))
        self._active_here: int = sum(home["state"] != "deleted" for home in homes)

    def _register_definition(self, segment: str, known_segment: KnownSegment) -> None:
        segment = sys.intern(segment)
        self.known_segments.add(segment)
        before = len(self.usable)
        if known_segment["state"] == "deleted":
            self.usable.pop(segment, None)
        else:
            self.usable[segment] = known_segment["generation"]
        self.set_rule(segment, known_segment.get("auto"))
        if partition_of(segment, self._context.config.partitions) != self._context.config.partition:
            self._active_elsewhere += len(self.usable) - before

    def set_rule(self, segment: str, known: KnownRule | None) -> None:
        """Set or clear the rule of a segment."""
        self.automatic.discard(segment)
        self.joinable.pop(segment, None)
        if known is not None:
            self.automatic.add(segment)
            if known["rule"]["newcomers"]:
                self.joinable[segment] = known

    @property
    def active(self) -> int:
        """Segments in use: own ones as decided, others as last received."""
        here: int = self._active_here
        return here + self._active_elsewhere

    def handlers(self) -> dict[str, Handler]:
        """The handler of each record type that only a segment's home decides."""
        return {
            CREATE: self.create,
            UPDATE: self.update,
            DELETE: self.delete,
            SURVEYED: self.surveyed,
            REFINED: self.refined,
            SELECTED: self.selected,
        }

    def create(self, command: dict[str, Any]) -> None:
        """A `create` record: a new generation at the segment's home."""
        self._execute(command, self._create)

    def update(self, command: dict[str, Any]) -> None:
        """An `update` record at the segment's home."""
        self._execute(command, self._update)

    def delete(self, command: dict[str, Any]) -> None:
        """A `delete` record at the segment's home."""
        self._execute(command, definitions.delete)

    def _execute(self, command: dict[str, Any], decide: Decide) -> None:
        segment, command_id = command["segment"], command["id"]
        key = home_key(segment)
        home: HomeState = self._context.state.get(key) or definitions.undefined()
        if (first := recall(home["outcomes"], command_id)) is not None:
            self._context.reply(command, first)
            return
        decided = decide(home, command)
        if isinstance(decided, Rejection):
            document, outcome = home, self._context.rejected(decided)
        else:
            document = decided
            status: ResultStatus = "unchanged" if document is home else "applied"
            outcome = self._context.outcome(status, [])
        self._context.reply(command, outcome)
        remember(document["outcomes"], command_id, outcome, self._context.config.remembered_ids)
        self._context.state.put(key, document)
        self._active_here += _in_use(document) - _in_use(home)
        if outcome["status"] == "applied":
            survey = None
            if document["state"] == "assigning" and home["state"] != "assigning":
                survey = assignment_coordinator.begin(segment, document, command)
            self._broadcast(segment, document, command)
            if survey is not None:
                self._context.broadcast(segment, survey.type, survey.value)

    def _create(self, home: HomeState, command: dict[str, Any]) -> Rejection | HomeState:
        created = definitions.create(
            home,
            command,
            now=self._context.shard["log_time"],
            active=self.active,
            max_segments=self._context.config.segments,
        )
        return self._with_known_filters(home, command, created)

    def _update(self, home: HomeState, command: dict[str, Any]) -> Rejection | HomeState:
        return self._with_known_filters(home, command, definitions.update(home, command))

    def _with_known_filters(
        self, home: HomeState, command: dict[str, Any], decided: Rejection | HomeState
    ) -> Rejection | HomeState:
        if isinstance(decided, Rejection):
            return decided
        return definitions.reject_unknown_filters(home, command, self.usable) or decided

    def _broadcast(self, segment: str, home: HomeState, command: dict[str, Any]) -> None:
        """Publish a definition and send it to every shard. `command`: its id and actor."""
        cause = {"command_id": command["id"], "actor": command.get("actor")}
        value = self._publish(segment, home) | cause
        if (auto := home.get("auto")) is not None:
            value["known"] = KnownRule(rule=auto["rule"], threshold=auto["threshold"])
        self._context.broadcast(segment, DEFINE, value)

    def _publish(self, segment: str, home: HomeState) -> dict[str, Any]:
        self._context.shard["defined"] = self._context.shard["offset"]
        position = f"{self._context.config.partition}:{self._context.shard['offset']}"
        public = definitions.definition(segment, home, position)
        self._context.outputs.append(outputs.definition(segment, public))
        return public

    # --- rounds of automatic assignment, at home ---

    def surveyed(self, reply: dict[str, Any]) -> None:
        """A shard's reply to `survey`."""
        self._advance(reply, "survey", assignment_coordinator.surveyed)

    def refined(self, reply: dict[str, Any]) -> None:
        """A shard's reply to `refine`."""
        self._advance(reply, "refine", assignment_coordinator.refined)

    def _advance(self, reply: dict[str, Any], stage: str, step: RoundStep) -> None:
        segment = reply["segment"]
        home = self._expecting(reply, stage)
        if home is None:
            return
        message = step(segment, home, reply, self._context.config.partitions)
        if message is not None:
            self._context.broadcast(segment, message.type, message.value)
            if message.type == SELECT:
                home["version"] += 1
                self._publish(segment, home)
        self._context.state.put(home_key(segment), home)

    def selected(self, reply: dict[str, Any]) -> None:
        """A shard's reply to `select`; the last one completes the round."""
        segment = reply["segment"]
        home = self._expecting(reply, "select")
        if home is None:
            return
        running = home["running"]
        if assignment_coordinator.selected(home, reply, self._context.config.partitions):
            cause = {"id": running["command_id"], "actor": running["actor"]}
            self._broadcast(segment, home, cause)
        self._context.state.put(home_key(segment), home)

    def _expecting(self, reply: dict[str, Any], stage: str) -> HomeState | None:
        home: HomeState | None = self._context.state.get(home_key(reply["segment"]))
        return home if assignment_coordinator.is_expected(home, reply, stage) else None

    # --- messages from a segment's home ---

    def define(self, value: dict[str, Any]) -> bool:
        """Apply a definition; False when it is not newer than the known one."""
        key = known_segment_key(value["segment"])
        if not definitions.supersedes(value, self._context.state.get(key)):
            return False
        known_segment = KnownSegment(
            generation=value["generation"], version=value["version"], state=value["state"]
        )
        if (known := value.get("known")) is not None:
            known_segment["auto"] = known
        self._context.state.put(key, known_segment)
        self._register_definition(value["segment"], known_segment)
        return True

    def begin_deletion(self, define: dict[str, Any]) -> None:
        """Delete a generation as of this log position; ticks write the removals."""
        job = DeletionJob(
            segment=define["segment"],
            generation=define["generation"],
            at=self._context.shard["log_time"],
            command_id=define["command_id"],
            actor=define["actor"],
        )
        self._context.state.put(job_key(job["segment"], job["generation"]), job)
        self.add_job(job)

    def add_job(self, job: DeletionJob) -> None:
        self.jobs[job["segment"], job["generation"]] = job
        heapq.heappush(self._jobs_in_order, (job["at"], job["segment"], job["generation"]))

    def end_first_job(self) -> None:
        """Complete `first_job`."""
        job = self.jobs.pop(heapq.heappop(self._jobs_in_order)[1:])
        self._context.state.delete(job_key(job["segment"], job["generation"]))

    @property
    def has_jobs(self) -> bool:
        return bool(self.jobs)

    def first_job(self) -> DeletionJob | None:
        """The oldest job, ties by name: the same before and after a restart."""
        return self.jobs[self._jobs_in_order[0][1:]] if self.jobs else None

    def job_of(self, segment: str, generation: int) -> DeletionJob | None:
        """The deletion that ended this generation and is still being written."""
        return self.jobs.get((segment, generation))

    def deleted_at(self, segment: str, generation: int) -> int | None:
        job = self.jobs.get((segment, generation))
        return None if job is None else job["at"]


def _in_use(home: HomeState) -> bool:
    return home["state"] != "deleted"
