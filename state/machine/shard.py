"""The state machine of one shard: `apply(record)` for each record of its log, in order.

State, outputs and their order are a function of the log alone: no clock, no randomness, no walk
over anything unordered. `UserDecisions` handles users and `SegmentDecisions` segments; this module
handles what applies to every record: redelivery, log time, ticks.
"""

from __future__ import annotations

from typing import Any

from segments.contracts.log import (
    DEFINE,
    PREVIEW,
    REFINE,
    SELECT,
    SURVEY,
    SURVEYED,
    TICK,
)
from segments.state.machine import documents
from segments.state.machine.assignment import Assignments
from segments.state.machine.config import Config, LogRecord
from segments.state.machine.context import Handler, ShardContext
from segments.state.machine.documents import JOB_PREFIX, SHARD_KEY, DocumentStore, ShardState
from segments.state.machine.outputs import ShardOutput
from segments.state.machine.population import Population
from segments.state.machine.previews import Previews
from segments.state.machine.segments import SegmentDecisions
from segments.state.machine.users import UserDecisions

DROPPED: list[ShardOutput] = []
"""The outputs of a redelivered record."""

_PREVIEW_TYPES = {SURVEY: "survey of a preview", SURVEYED: "surveyed for a preview"}
"""In the log a preview's messages have the types of a round's; a field `preview` marks them."""


class Shard:
    """The state machine of one partition of the log."""

    def __init__(self, config: Config, state: DocumentStore) -> None:
        self._config = config
        self._state = state
        self.shard: ShardState = state.get(SHARD_KEY) or documents.new_shard()
        self._outputs: list[ShardOutput] = []
        context = ShardContext(config, state, self.shard, self._outputs)
        self.segments = SegmentDecisions(context)
        self.population = Population.rebuild(
            ((key[1:].decode(), user) for key, user in state.scan(documents.USER_PREFIX)),
            self.segments.known_segments,
            self.segments.usable,
        )
        self.assignments = Assignments(context, self.segments, self.population)
        self.previews = Previews(
            context, self.segments, self.population, self.assignments.members_of
        )
        self.users = UserDecisions(context, self.segments, self.population, self.assignments)
        for _, job in sorted(state.scan(JOB_PREFIX)):
            self.segments.add_job(job)
        self._handlers: dict[str, Handler] = {
            **self.users.handlers(),
            **self.segments.handlers(),
            TICK: self._tick,
            DEFINE: self._define,
            SURVEY: self._survey,
            REFINE: self.assignments.refine,
            SELECT: self.assignments.select,
            PREVIEW: self.previews.command,
            _PREVIEW_TYPES[SURVEY]: self._survey_preview,
            _PREVIEW_TYPES[SURVEYED]: self.previews.count,
        }

    def apply(self, record: LogRecord) -> list[ShardOutput]:
        """Apply one record and return its outputs; ValueError for an unknown type."""
        shard = self.shard
        if record.source is not None:
            origin, offset = record.source
            if offset <= shard["sources"].get(origin, -1):
                shard["offset"] = record.offset
                self._state.put(SHARD_KEY, shard)
                return DROPPED
            shard["sources"][origin] = offset
        shard["log_time"] = max(shard["log_time"], record.append_time)
        shard["offset"] = record.offset
        self._state.put(SHARD_KEY, shard)
        self._handler(record)(record.value)
        taken = self._outputs.copy()
        self._outputs.clear()
        return taken

    def _handler(self, record: LogRecord) -> Handler:
        """The method that applies a record; ValueError for an unknown type."""
        record_type = record.type
        if "preview" in record.value:
            record_type = _PREVIEW_TYPES.get(record_type, record_type)
        try:
            return self._handlers[record_type]
        except KeyError:
            raise ValueError(
                f"unknown type of log record: {record.type!r} at offset {record.offset}"
            ) from None

    def _survey(self, value: dict[str, Any]) -> None:
        self.users.settle_due(self._config.job_slice)
        self.assignments.survey(value)
        self._reply_to_surveys()

    def _survey_preview(self, value: dict[str, Any]) -> None:
        self.users.settle_due(self._config.job_slice)
        self.previews.survey(value, at_once=not self._is_due())
        self._reply_to_surveys()

    def _is_due(self) -> bool:
        due = self.population.timers.next_due_ms()
        return due is not None and due <= self.shard["log_time"]

    def _reply_to_surveys(self) -> None:
        """Reply only while nothing is due, so that ended memberships are not counted."""
        if not self._is_due():
            self.assignments.reply_to_surveys()
            self.previews.reply_to_surveys()

    def _define(self, value: dict[str, Any]) -> None:
        segment, generation = value["segment"], value["generation"]
        before = self.segments.joinable.get(segment)
        if not self.segments.define(value):
            return
        deleted = value["state"] == "deleted"
        self.assignments.drop(segment, generation if deleted else generation - 1)
        if deleted:
            if self.population.first_member((segment, generation)) is not None:
                self.segments.begin_deletion(value)
            self.users.enrollment.segment_deleted(segment)
        else:
            self.users.enrollment.filters_updated(segment, before)
        self.population.release(segment)
        self.users.resume_deferred(self._config.job_slice)

    def _tick(self, _value: dict[str, Any]) -> None:
        # One budget for all kinds of work bounds the time that a tick delays commands.
        left = self.users.settle_due(self._config.job_slice)
        self._reply_to_surveys()
        left = self.users.resume_deferred(left)
        while left > 0 and (job := self.segments.first_job()) is not None:
            key = (job["segment"], job["generation"])
            left -= self.users.end_members(key, left)
            if self.population.first_member(key) is None:
                self.segments.end_first_job()
        while (ordinal := self.assignments.next_user()) is not None and left > 0:
            self.users.settle_assigned(ordinal)
            left -= 1

    @property
    def jobs(self) -> int:
        """Deletions and assignments still being written."""
        return len(self.segments.jobs) + self.assignments.count

    @property
    def oldest_job_at(self) -> int | None:
        """Instant (ms) of the oldest of `jobs`; None when there is none."""
        job = self.segments.first_job()
        instants = [] if job is None else [job["at"]]
        if (round_at := self.assignments.oldest_at) is not None:
            instants.append(round_at)
        return min(instants, default=None)

    @property
    def has_urgent_work(self) -> bool:
        """Whether the next tick unblocks a command or preview, not only continues a job."""
        return bool(self.population.ready) or self.previews.has_work

    def next_due_ms(self) -> int | None:
        """When the next tick is needed (ms): 0 = at once, None = nothing is due."""
        if self.population.ready or self.segments.has_jobs:
            return 0
        if self.assignments.has_work or self.previews.has_work:
            return 0
        return self.population.timers.next_due_ms()

    def complete_at_ms(self) -> int:
        """The watermark (ms): every change up to this instant has been output.

        Never the log time itself: the next record may have been appended in the same millisecond.
        """
        complete = self.shard["log_time"] - 1
        due = self.population.timers.next_due_ms()
        if due is not None and due <= complete:
            complete = due - 1
        if (job := self.segments.first_job()) is not None:
            complete = min(complete, job["at"] - 1)
        pending_at = self.assignments.first_pending_at()
        return complete if pending_at is None else min(complete, pending_at - 1)
