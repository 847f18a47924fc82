"""Previews: how many users a rule lets through now, asked of every shard and counted in one.

The one that counts is that of the command's id. Nothing about segments or users is changed.
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
    """Previews surveyed by this shard, and those whose replies it counts."""

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
            asked["preview"]: asked["rule"]
            for _, asked in context.state.scan(DEFERRED_SURVEY_PREFIX)
        }

    # --- where the command is at home ---

    def command(self, command: dict[str, Any]) -> None:
        """Ask every shard, itself as well; a preview with this id may be on its way already."""
        command_id, rule = command["id"], command["auto"]
        if unknown := definitions.unusable_filters(rule, self._segments.usable):
            rejection = Rejection("segment_unknown", "the filters name no such segment", unknown)
            self._context.reply(command, self._context.rejected(rejection))
            return
        key = preview_key(command_id)
        if self._context.state.get(key) is not None:
            return  # replies to the two could not be told apart; the first's result is for both
        counting = PreviewState(rule=rule, replied=[], eligible=0)
        if (trace := command.get("trace")) is not None:
            counting["trace"] = trace
        self._context.state.put(key, counting)
        self._context.broadcast(command_id, SURVEY, {"preview": command_id, "rule": rule})

    def count(self, reply: dict[str, Any]) -> None:
        """Add a shard's reply; the last one gives the result."""
        command_id = reply["preview"]
        key = preview_key(command_id)
        counting: PreviewState | None = self._context.state.get(key)
        if counting is None or reply["partition"] in counting["replied"]:
            return
        counting["replied"].append(reply["partition"])
        counting["eligible"] += reply["eligible"]
        if len(counting["replied"]) < self._context.config.partitions:
            self._context.state.put(key, counting)
            return
        self._context.state.delete(key)
        eligible = counting["eligible"]
        counts = {"eligible": eligible, "target": target_of(counting["rule"], eligible)}
        at = (self._context.shard["offset"], self._context.shard["log_time"])
        trace = counting.get("trace")
        self._context.outputs.append(
            outputs.preview(self._context.config.partition, command_id, at, counts, trace)
        )

    # --- at every shard ---

    def survey(self, value: dict[str, Any], *, at_once: bool) -> None:
        """Count whom the rule lets through, now or once nothing is due."""
        if at_once:
            self._reply(value["preview"], value["rule"])
        else:
            asked = DeferredSurvey(preview=value["preview"], rule=value["rule"])
            self._deferred[value["preview"]] = value["rule"]
            self._context.state.put(deferred_survey_key(value["preview"]), asked)

    @property
    def has_work(self) -> bool:
        """Whether surveys are deferred."""
        return bool(self._deferred)

    def answer(self) -> None:
        """Reply to deferred surveys, now that nothing is due."""
        # In an order that is the same before and after a restart.
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
