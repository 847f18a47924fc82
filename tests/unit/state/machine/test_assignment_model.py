"""Random histories with automatic segments: any number of shards, any order, crashes.

`HYPOTHESIS_EXAMPLES=5000` runs more examples, with random seeds.
"""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.support.machine.assignment_world import AssignmentWorld
from tests.support.machine.model_settings import LONGER, SETTINGS
from tests.support.machine.world import user_id

PLAIN = ["p", "q"]
AUTO = ["x", "y", "z"]
USERS = 30
NUMBERS = st.integers(0, USERS - 1)
SHARDS = st.integers(0, 7)
SOURCES = st.integers(0, 1)
AGAIN = st.sampled_from([0, 0, 0, 0, 1, 2])


@st.composite
def rules(draw: st.DrawFn, segment: str) -> dict[str, Any]:
    others = [name for name in PLAIN + AUTO if name != segment]
    filters = draw(st.lists(st.sampled_from(others), max_size=2, unique=True))
    split = draw(st.integers(0, len(filters)))
    made: dict[str, Any] = draw(
        st.one_of(
            st.sampled_from([1, 10, 33.3333, 50, 100]).map(lambda percent: {"percent": percent}),
            st.sampled_from([1, 5, 1_000]).map(lambda count: {"count": count}),
        )
    )
    made |= {"include": filters[:split], "exclude": filters[split:]}
    made["newcomers"] = draw(st.booleans())
    if draw(st.booleans()):
        made["accounts"] = draw(st.sampled_from([["active"], ["active", "unknown"], ["blocked"]]))
    if draw(st.integers(0, 3)) == 0:
        made["ttl"] = draw(st.sampled_from([0.001, 0.4, 60]))
    return made


class Assignments(RuleBasedStateMachine):
    """Every rule is something that can happen while segments are being assigned."""

    @initialize(
        partitions=st.integers(1, 8),
        job_slice=st.sampled_from([1, 3, 1_000]),
        segments_per_user=st.sampled_from([2, 3, 2_000]),
        segments=st.sampled_from([100, 4]),
        accept_unknown_users=st.sampled_from([True, True, False]),
    )
    def begin(self, partitions: int, **limits: Any) -> None:
        self.world = AssignmentWorld(partitions, **limits)
        self.refresh = 0
        self.ids: list[str] = []
        for name in PLAIN:
            self.world.create(name)
        for number in range(0, USERS, 2):
            self.world.user("active", user_id(number))
        self.world.run()

    def _id(self, again: int, scope: str) -> str:
        """A new id, or one that was given to something else of this kind."""
        given = [each for each in self.ids if each.startswith(scope)]
        if 0 < again <= len(given):
            return given[-again]
        self.ids.append(f"{scope}{len(self.ids)}")
        return self.ids[-1]

    @rule(segment=st.sampled_from(AUTO), data=st.data(), again=AGAIN, source=SOURCES)
    def create(self, segment: str, data: st.DataObject, again: int, source: int) -> None:
        self.world.send(
            source,
            type="create_segment",
            id=self._id(again, segment),
            segment=segment,
            auto=data.draw(rules(segment)),
        )

    def _held(self, segment: str) -> dict[str, Any] | None:
        """The rule of a segment as it would be sent again."""
        held = (self.world.definitions.get(segment) or {}).get("auto")
        if held is None:
            return None
        names = ("percent", "count", "include", "exclude", "accounts", "newcomers")
        same: dict[str, Any] = {name: held[name] for name in names if held[name] is not None}
        if held["ttl_ms"] is not None:
            same["ttl"] = held["ttl_ms"] / 1000
        return same

    @rule(
        segment=st.sampled_from(AUTO),
        share=st.sampled_from([20, 60, 60.5, 100]),
        again=AGAIN,
        described=st.booleans(),
    )
    def raise_to(self, segment: str, share: float, again: int, described: bool) -> None:
        held = self._held(segment)
        if held is not None:
            held |= {"count": int(share)} if "count" in held else {"percent": share}
            self._update(segment, held, again, described)

    @rule(
        segment=st.sampled_from(AUTO),
        data=st.data(),
        kept=st.sampled_from([("percent", "count"), ("percent", "count", "ttl"), ()]),
        again=AGAIN,
        described=st.booleans(),
    )
    def change_rule(
        self, segment: str, data: st.DataObject, kept: tuple[str, ...], again: int, described: bool
    ) -> None:
        """Other filters, another end, newcomers or not, mostly with the same share."""
        held = self._held(segment)
        if held is not None:
            rule = data.draw(rules(segment))
            for name in kept:
                rule.pop(name, None)
                if name in held:
                    rule[name] = held[name]
            self._update(segment, rule, again, described)

    def _update(self, segment: str, rule: dict[str, Any], again: int, described: bool) -> None:
        more: Any = {"description": str(len(self.ids))} if described else {}
        command_id = self._id(again, segment)
        self.world.send(type="update_segment", id=command_id, segment=segment, auto=rule, **more)

    @rule(segment=st.sampled_from(PLAIN + AUTO))
    def describe(self, segment: str) -> None:
        words = str(self.world.clock_ms)
        self.world.send(type="update_segment", segment=segment, description=words)

    @rule(data=st.data(), again=AGAIN)
    def preview(self, data: st.DataObject, again: int) -> None:
        rule = data.draw(rules(""))
        self.world.send(type="preview_segment", id=self._id(again, "preview"), auto=rule)

    @rule(segment=st.sampled_from(PLAIN + AUTO), again=st.booleans(), data=st.data())
    def delete(self, segment: str, again: bool, data: st.DataObject) -> None:
        self.world.send(type="delete_segment", segment=segment)
        if again:
            auto: Any = {"auto": data.draw(rules(segment))} if data.draw(st.booleans()) else {}
            self.world.send(type="create_segment", segment=segment, **auto)

    @rule(source=SOURCES, count=st.integers(1, 12))
    def router_starts_anew(self, source: int, count: int) -> None:
        self.world.redeliver(source, count)

    @rule(
        users=st.lists(NUMBERS, min_size=1, max_size=6),
        segment=st.sampled_from(PLAIN + AUTO),
        add=st.booleans(),
        ttl=st.sampled_from([None, None, 0.002, 1]),
        again=AGAIN,
    )
    def by_hand(
        self, users: list[int], segment: str, add: bool, ttl: float | None, again: int
    ) -> None:
        addition = {"segment": segment} | ({} if ttl is None else {"ttl": ttl})
        change: dict[str, Any] = {"add": [addition]} if add else {"remove": [segment]}
        for number in users:
            command_id = self._id(again, f"u{number}-")
            self.world.send(
                type="change_memberships", id=command_id, user_id=user_id(number), **change
            )

    @rule(
        users=st.lists(NUMBERS, min_size=1, max_size=6),
        account=st.sampled_from(["active", "active", "blocked", "deleted"]),
    )
    def accounts(self, users: list[int], account: str) -> None:
        for number in users:
            self.refresh += 1
            self.world.user(account, user_id(number), refresh=("r", 0, self.refresh))

    @rule(ms=st.sampled_from([1, 2, 400, 5_001]))
    def time_passes(self, ms: int) -> None:
        self.world.advance_clock(ms)

    @rule(shard=SHARDS, count=st.integers(1, 20))
    def shard_goes_on(self, shard: int, count: int) -> None:
        shard %= self.world.partitions
        for _ in range(min(count, self.world.shards[shard].behind)):
            self.world.apply(shard)

    @rule(writer=SHARDS, reader=SHARDS, count=st.integers(1, 5))
    def message_arrives(self, writer: int, reader: int, count: int) -> None:
        way = (writer % self.world.partitions, reader % self.world.partitions)
        for _ in range(min(count, len(self.world.in_flight[way]))):
            self.world.deliver(*way)

    @rule()
    def everything_arrives(self) -> None:
        self.world.run()

    @rule(shard=SHARDS)
    def tick(self, shard: int) -> None:
        self.world.append_tick(shard % self.world.partitions)

    @rule(shard=SHARDS)
    def checkpoint(self, shard: int) -> None:
        self.world.shards[shard % self.world.partitions].checkpoint()

    @rule(shard=SHARDS)
    def crash(self, shard: int) -> None:
        self.world.shards[shard % self.world.partitions].crash()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.advance_clock(10_000)
            self.world.settle()
            self.world.tick()
            self.world.settle()
            assert all(d["state"] != "assigning" for d in self.world.definitions.values())
            self.world.check_rounds()
            self.world.check_newcomers()
            self.world.check()


Assignments.TestCase.settings = settings(
    SETTINGS, max_examples=LONGER or 400, stateful_step_count=40
)
TestAssignments = Assignments.TestCase
