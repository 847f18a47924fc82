"""Previews: how many users a rule admits now. One shard queries all shards and adds up the replies.

The command id determines the coordinating shard. Segments and users stay unchanged.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from segments.contracts.auto import AutoRule, target_of
from segments.contracts.log import SURVEY, SURVEYED
from segments.state.machine import definitions, outputs
from segments.state.machine.context import ShardContext
from segments.state.machine.documents import (
    DEFERRED_SURVEY_PREFIX,
    DeferredSurvey,
    PreviewState,
    deferred_survey_key,
    preview_key,
)
from segments.state.machine.memberships import Rejection
from segments.state.machine.population import MembersOf, Population

if TYPE_CHECKING:
    from segments.state.machine.segments import SegmentDecisions


class Previews:
    """Previews that this shard coordinates, and surveys that it replies to."""

    def __init__(
        self,
        context: ShardContext,
        segments: SegmentDecisions,
        population: Population,
        members_of: MembersOf,
    ) -> None:
        self._context = context
        self._segments = segments
        self._population = population
        self._members_of = members_of
        self._deferred: dict[str, AutoRule] = {
            survey["preview"]: survey["rule"]
            for _, survey in context.state.scan(DEFERRED_SURVEY_PREFIX)
        }

    # --- at the coordinating shard ---

    def command(self, command: dict[str, Any]) -> None:
        """Execute a `preview` record: send a survey to every shard, this one included."""
        command_id, rule = command["id"], command["auto"]
        if unknown := definitions.unusable_filters(rule, self._segments.usable):
            rejection = Rejection("segment_unknown", "the filters name no such segment", unknown)
            self._context.reply(command, self._context.rejected(rejection))
            return
        key = preview_key(command_id)
        if self._context.state.get(key) is not None:
            return  # Already running: a second survey's replies would count for both.
        preview = PreviewState(rule=rule, replied=[], eligible=0)
        if (trace := command.get("trace")) is not None:
            preview["trace"] = trace
        self._context.state.put(key, preview)
        self._context.broadcast(command_id, SURVEY, {"preview": command_id, "rule": rule})

    def count(self, reply: dict[str, Any]) -> None:
        """Add a shard's reply; the last one produces the result."""
        command_id = reply["preview"]
        key = preview_key(command_id)
        preview: PreviewState | None = self._context.state.get(key)
        if preview is None or reply["partition"] in preview["replied"]:
            return
        preview["replied"].append(reply["partition"])
        preview["eligible"] += reply["eligible"]
        if len(preview["replied"]) < self._context.config.partitions:
            self._context.state.put(key, preview)
            return
        self._context.state.delete(key)
        eligible = preview["eligible"]
        counts = {"eligible": eligible, "target": target_of(preview["rule"], eligible)}
        at = (self._context.shard["offset"], self._context.shard["log_time"])
        trace = preview.get("trace")
        self._context.outputs.append(
            outputs.preview(self._context.config.partition, command_id, at, counts, trace)
        )

    # --- at every shard ---

    def survey(self, value: dict[str, Any], *, at_once: bool) -> None:
        """Count the users the rule admits, now or once nothing is due."""
        if at_once:
            self._reply(value["preview"], value["rule"])
        else:
            survey = DeferredSurvey(preview=value["preview"], rule=value["rule"])
            self._deferred[value["preview"]] = value["rule"]
            self._context.state.put(deferred_survey_key(value["preview"]), survey)

    @property
    def has_work(self) -> bool:
        """Whether surveys are deferred."""
        return bool(self._deferred)

    def reply_to_surveys(self) -> None:
        """Reply to deferred surveys, now that nothing is due."""
        # Sorted, for the same order before and after a restart.
        for command_id in sorted(self._deferred):
            self._reply(command_id, self._deferred.pop(command_id))
            self._context.state.delete(deferred_survey_key(command_id))

    def _reply(self, command_id: str, rule: AutoRule) -> None:
        value = {
            "preview": command_id,
            "partition": self._context.config.partition,
            "eligible": len(self._population.eligible(rule, None, self._members_of)),
        }
        self._context.send_home(command_id, SURVEYED, value)
