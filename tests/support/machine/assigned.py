"""A world whose rounds of automatic assignment are judged by plain code.

Each shard has a `Witness`. What the home of a segment makes of the shards' replies is judged here,
over all of them.
"""

from __future__ import annotations

from typing import Any

import orjson

from segments.contracts.log import PREVIEW, SELECT, SELECTED, SURVEY, SURVEYED
from tests.support.machine.chosen import LAST, Place, Rule, Witness, place, rounded
from tests.support.machine.hosted import Produced
from tests.support.machine.world import World

Round = tuple[str, int, int]
"""(segment, generation, number)"""


class AssignedWorld(World):
    """Judges every record when it is applied."""

    def __init__(self, partitions: int = 1, **limits: Any) -> None:
        super().__init__(partitions, **limits)
        self.witnesses = [Witness(shard.config) for shard in self.shards]
        self.eligible: dict[Round, dict[int, set[str]]] = {}
        self.had: dict[Round, int] = {}
        self.rules: dict[tuple[str, int], Rule] = {}
        self.thresholds: dict[tuple[str, int], Place | None] = {}
        self.judged: set[Round] = set()
        self.targets: dict[Round, int] = {}
        self.written: dict[Round, list[tuple[int, int]]] = {}
        self.previewed: dict[str, dict[str, Any]] = {}

    def apply(self, partition: int) -> list[Produced]:
        record = self.shards[partition].record(self.shards[partition].applied)
        outputs = super().apply(partition)
        if record.type == SELECT:
            self._judge_selection(record.value)
        if record.type == PREVIEW and any(output.type == SURVEY for output in outputs):
            asked = {"rule": record.value["auto"], "counts": {}}
            assert record.value["id"] not in self.previewed
            self.previewed[record.value["id"]] = asked
        witness = self.witnesses[partition]
        witness.see(record, outputs)
        told: set[tuple[str, int, int]] = set()
        for output in outputs:
            value = orjson.loads(output.value)
            if output.type == SURVEYED:
                self._counted(partition, value)
            elif output.type == SELECTED:
                number = (value["segment"], value["generation"], value["round"])
                said = (value["assigned"], value["skipped"])
                self.written.setdefault(number, []).append(said)
            elif output.topic == "segments.definitions":
                self._judge_definition(value)
            elif output.type == "define" and value["state"] != "deleted":
                version = (value["segment"], value["generation"], value["version"])
                if version not in told:
                    self._defined(value)
                told.add(version)
            elif output.topic == "segments.results" and "preview" in value:
                self._judge_preview(value)
        return outputs

    def _defined(self, value: dict[str, Any]) -> None:
        """A threshold is forgotten with the filters that it was found for, by a raise only."""
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

    def _judge_definition(self, value: dict[str, Any]) -> None:
        """What readers are told of an assignment."""
        segment, generation, auto = value["segment"], value["generation"], value["auto"]
        if value["state"] == "deleted":
            assert auto is None
            return
        ended = sorted(n for n, said in self.written.items() if n[:2] == (segment, generation))
        if value["state"] == "assigning" or not ended:
            return
        newest = ended[-1]
        assert all(len(self.written[number]) == self.partitions for number in ended)
        assert auto["assigned"] == self.had[newest] + sum(n for n, _ in self.written[newest])
        assert auto["skipped"] == sum(n for number in ended for _, n in self.written[number])
        assert auto["target"] == self.targets[newest]

    def _counted(self, partition: int, reply: dict[str, Any]) -> None:
        witness = self.witnesses[partition]
        if "preview" in reply:
            asked = self.previewed[reply["preview"]]
            assert reply["eligible"] == witness.previewed(asked["rule"])
            assert partition not in asked["counts"]
            asked["counts"][partition] = reply["eligible"]
            return
        number = (reply["segment"], reply["generation"], reply["round"])
        self.eligible.setdefault(number, {})[partition] = witness.candidates[reply["segment"]]
        self.had[number] = self.had.get(number, 0) + reply["members"]

    def _judge_preview(self, result: dict[str, Any]) -> None:
        asked = self.previewed.pop(result["command_id"])
        assert len(asked["counts"]) == self.partitions
        eligible = sum(asked["counts"].values())
        target = rounded(asked["rule"], eligible)
        assert result["preview"] == {"eligible": eligible, "target": target}

    def _judge_selection(self, value: dict[str, Any]) -> None:
        """The home has chosen exactly as many as it had to, the lowest places first."""
        segment, generation, _ = number = value["segment"], value["generation"], value["round"]
        if number in self.judged:
            return
        self.judged.add(number)
        rule = self.rules[segment, generation]
        in_order = self._in_order(number)
        self.targets[number] = rounded(rule, len(in_order) + self.had[number])
        wanted = max(0, self.targets[number] - self.had[number])
        places = [place(segment, generation, user) for user in in_order]
        chosen = value["chosen"]
        last = (-1, "") if chosen is None else tuple(chosen)
        assert [p for p in places if p <= last] == places[:wanted]
        threshold = _threshold(rule, self.thresholds[segment, generation], places, wanted)
        assert (None if value["threshold"] is None else tuple(value["threshold"])) == threshold
        self.thresholds[segment, generation] = threshold

    def _in_order(self, number: Round) -> list[str]:
        eligible = set().union(*self.eligible[number].values())
        return sorted(eligible, key=lambda user: place(number[0], number[1], user))

    def judge_rounds(self) -> None:
        """At the end: no round is left, and everything owed was written."""
        assert all(number in self.judged for number in self.eligible if self._lives(number))
        for witness, shard in zip(self.witnesses, self.shards, strict=True):
            assert not any(p.owed or p.expected for p in witness.people.values())
            assert shard.machine.jobs == 0
            for user, person in witness.people.items():
                assert self.held(user) == {name: held.end for name, held in person.held.items()}
        assert self.previewed == {}

    def _lives(self, number: Round) -> bool:
        definition = self.definitions[number[0]]
        return bool(definition["generation"] == number[1] and definition["state"] != "deleted")

    def judge_newcomers(self) -> None:
        """Whoever is let through, and stands before the threshold, has the segment."""
        for witness in self.witnesses:
            for user in witness.people:
                assert witness.missing(user) == [], user


def _size(rule: Rule) -> int:
    return int(rule["ppm"] or rule["count"])


def _filters(rule: Rule) -> list[Any]:
    return [rule[name] for name in ("accounts", "include", "exclude", "newcomers")]


def _threshold(rule: Rule, held: Place | None, places: list[Place], wanted: int) -> Place | None:
    """Up to where newcomers may join: by what the documents say."""
    if rule["ppm"] == 1_000_000:
        return LAST
    if wanted:
        reached = places[wanted - 1]
    elif rule["ppm"] is None:
        return held
    else:
        # Of all places that there could be, the share; but nobody who was counted stands there.
        limit = rule["ppm"] * 2**64 // 1_000_000
        reached = (limit - 1, "f" * 32)
        if places and places[0] <= reached:
            rank, user = places[0]
            before = (rank << 128 | int(user, 16)) - 1
            reached = (before >> 128, f"{before & (2**128 - 1):032x}")
    return reached if held is None else max(held, reached)
