"""A `World` that checks rounds of automatic assignment against a plain implementation.

Each shard has an `AssignmentOracle`. The decisions of a segment's home shard are checked here,
across all shards.
"""

from __future__ import annotations

from typing import Any

import orjson

from segments.contracts.log import PREVIEW, SELECT, SELECTED, SURVEY, SURVEYED
from tests.support.machine.assignment_oracle import (
    LAST,
    AssignmentOracle,
    Place,
    Rule,
    place,
    rounded,
)
from tests.support.machine.hosted_shard import Produced
from tests.support.machine.world import World

Round = tuple[str, int, int]
"""(segment, generation, number)"""


class AssignmentWorld(World):
    """Checks every record when it is applied."""

    def __init__(self, partitions: int = 1, **limits: Any) -> None:
        super().__init__(partitions, **limits)
        self.oracles = [AssignmentOracle(shard.config) for shard in self.shards]
        self.eligible: dict[Round, dict[int, set[str]]] = {}
        self.members_before: dict[Round, int] = {}
        self.rules: dict[tuple[str, int], Rule] = {}
        self.thresholds: dict[tuple[str, int], Place | None] = {}
        self.checked: set[Round] = set()
        self.targets: dict[Round, int] = {}
        self.written: dict[Round, list[tuple[int, int]]] = {}
        self.previewed: dict[str, dict[str, Any]] = {}

    def apply(self, partition: int) -> list[Produced]:
        record = self.shards[partition].record(self.shards[partition].applied)
        outputs = super().apply(partition)
        if record.type == SELECT:
            self._check_selection(record.value)
        if record.type == PREVIEW and any(output.type == SURVEY for output in outputs):
            assert record.value["id"] not in self.previewed
            self.previewed[record.value["id"]] = {"rule": record.value["auto"], "counts": {}}
        self.oracles[partition].apply(record, outputs)
        defined: set[tuple[str, int, int]] = set()
        for output in outputs:
            value = orjson.loads(output.value)
            if output.type == SURVEYED:
                self._check_survey(partition, value)
            elif output.type == SELECTED:
                number = (value["segment"], value["generation"], value["round"])
                counts = (value["assigned"], value["skipped"])
                self.written.setdefault(number, []).append(counts)
            elif output.topic == "segments.definitions":
                self._check_definition(value)
            elif output.type == "define" and value["state"] != "deleted":
                version = (value["segment"], value["generation"], value["version"])
                if version not in defined:
                    self._check_threshold(value)
                defined.add(version)
            elif output.topic == "segments.results" and "preview" in value:
                self._check_preview(value)
        return outputs

    def _check_threshold(self, value: dict[str, Any]) -> None:
        """A definition keeps the threshold, unless the rule is raised with other filters."""
        key, known = (value["segment"], value["generation"]), value.get("known")
        if known is None:
            return
        before, rule, threshold = self.rules.get(key), known["rule"], known["threshold"]
        held = self.thresholds.get(key)
        if (
            before is not None
            and _size(rule) > _size(before)
            and _filters(rule) != _filters(before)
        ):
            held = None
        assert (None if threshold is None else tuple(threshold)) == held
        self.rules[key], self.thresholds[key] = rule, held

    def _check_definition(self, value: dict[str, Any]) -> None:
        """Check the counts in a public definition."""
        segment, generation, auto = value["segment"], value["generation"], value["auto"]
        if value["state"] == "deleted":
            assert auto is None
            return
        ended = sorted(number for number in self.written if number[:2] == (segment, generation))
        if value["state"] == "assigning" or not ended:
            return
        newest = ended[-1]
        assert all(len(self.written[number]) == self.partitions for number in ended)
        assert auto["assigned"] == self.members_before[newest] + sum(
            n for n, _ in self.written[newest]
        )
        assert auto["skipped"] == sum(n for number in ended for _, n in self.written[number])
        assert auto["target"] == self.targets[newest]

    def _check_survey(self, partition: int, reply: dict[str, Any]) -> None:
        oracle = self.oracles[partition]
        if "preview" in reply:
            preview = self.previewed[reply["preview"]]
            assert reply["eligible"] == oracle.preview_count(preview["rule"])
            assert partition not in preview["counts"]
            preview["counts"][partition] = reply["eligible"]
            return
        number = (reply["segment"], reply["generation"], reply["round"])
        self.eligible.setdefault(number, {})[partition] = oracle.candidates[reply["segment"]]
        self.members_before[number] = self.members_before.get(number, 0) + reply["members"]

    def _check_preview(self, result: dict[str, Any]) -> None:
        preview = self.previewed.pop(result["command_id"])
        assert len(preview["counts"]) == self.partitions
        eligible = sum(preview["counts"].values())
        target = rounded(preview["rule"], eligible)
        assert result["preview"] == {"eligible": eligible, "target": target}

    def _check_selection(self, value: dict[str, Any]) -> None:
        """The home selects exactly the missing number of users, lowest places first."""
        segment, generation, _ = number = value["segment"], value["generation"], value["round"]
        if number in self.checked:
            return
        self.checked.add(number)
        rule = self.rules[segment, generation]
        in_order = self._in_order(number)
        self.targets[number] = rounded(rule, len(in_order) + self.members_before[number])
        missing = max(0, self.targets[number] - self.members_before[number])
        places = [place(segment, generation, user) for user in in_order]
        chosen = value["chosen"]
        last = (-1, "") if chosen is None else tuple(chosen)
        assert [p for p in places if p <= last] == places[:missing]
        threshold = _threshold(rule, self.thresholds[segment, generation], places, missing)
        assert (None if value["threshold"] is None else tuple(value["threshold"])) == threshold
        self.thresholds[segment, generation] = threshold

    def _in_order(self, number: Round) -> list[str]:
        eligible = set().union(*self.eligible[number].values())
        return sorted(eligible, key=lambda user: place(number[0], number[1], user))

    def check_rounds(self) -> None:
        """At the end: every round is complete, and all pending assignments are written."""
        assert all(number in self.checked for number in self.eligible if self._lives(number))
        for oracle, shard in zip(self.oracles, self.shards, strict=True):
            assert not any(p.pending or p.expected for p in oracle.people.values())
            assert shard.machine.jobs == 0
            for user, person in oracle.people.items():
                assert self.memberships(user) == {
                    name: held.end for name, held in person.held.items()
                }
        assert self.previewed == {}

    def _lives(self, number: Round) -> bool:
        definition = self.definitions[number[0]]
        return bool(definition["generation"] == number[1] and definition["state"] != "deleted")

    def check_newcomers(self) -> None:
        """Every eligible user up to the threshold is a member."""
        for oracle in self.oracles:
            for user in oracle.people:
                assert oracle.missing(user) == [], user


def _size(rule: Rule) -> int:
    return int(rule["ppm"] or rule["count"])


def _filters(rule: Rule) -> list[Any]:
    return [rule[name] for name in ("accounts", "include", "exclude", "newcomers")]


def _threshold(rule: Rule, held: Place | None, places: list[Place], missing: int) -> Place | None:
    """Expected place up to which new users may join."""
    if rule["ppm"] == 1_000_000:
        return LAST
    if missing:
        reached = places[missing - 1]
    elif rule["ppm"] is None:
        return held
    else:
        # The rule's share of all possible places, but below the place of every user counted.
        limit = rule["ppm"] * 2**64 // 1_000_000
        reached = (limit - 1, "f" * 32)
        if places and places[0] <= reached:
            rank, user = places[0]
            before = (rank << 128 | int(user, 16)) - 1
            reached = (before >> 128, f"{before & (2**128 - 1):032x}")
    return reached if held is None else max(held, reached)
