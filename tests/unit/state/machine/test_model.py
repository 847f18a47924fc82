"""Random histories compared with the oracle: several shards, any order of messages, crashes.

`HYPOTHESIS_EXAMPLES=5000` runs more examples, with random seeds.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from segments.contracts.times import to_rfc3339
from tests.support.machine.checked_world import CheckedWorld
from tests.support.machine.model_settings import SETTINGS
from tests.support.machine.world import user_id

USERS = st.integers(0, 3)
SEGMENTS = st.sampled_from(["a", "b", "c", "d"])
PASSING_MS = st.sampled_from([1, 1, 2, 3, 400, 4_999, 5_000, -1, -3, -5_000])
ENDS = st.sampled_from([None, None, ("ttl", 1), ("ttl", 2), ("ttl", 400), ("ttl", 6_000),
                        ("at", -1), ("at", 0), ("at", 1), ("at", 3), ("at", 401)])  # fmt: skip
PARTITIONS = st.integers(0, 2)


@st.composite
def changes(draw: st.DrawFn) -> dict[str, Any]:
    """A change of one user: ends are (kind, ms), counted from when the command is sent."""
    segments = draw(st.lists(SEGMENTS, min_size=1, max_size=2, unique=True))
    removed = draw(st.sampled_from([0, 0, 1]))
    return {
        "user": draw(USERS),
        "add": [(name, draw(ENDS)) for name in segments[removed:]],
        "remove": segments[:removed],
        "again": draw(st.sampled_from([0, 0, 0, 1, 2])),
        "source": draw(st.integers(0, 1)),
    }


class Shards(RuleBasedStateMachine):
    """Every rule is something that can happen to a deployment."""

    @initialize(
        partitions=st.integers(1, 3),
        job_slice=st.sampled_from([1, 2, 1_000]),
        parked_per_user=st.sampled_from([2, 64]),
        remembered_ids=st.sampled_from([1, 3, 64]),
        segments_per_user=st.sampled_from([2, 2_000]),
        segments=st.sampled_from([100, 3]),
        park_ms=st.sampled_from([5_000, 0]),
        accept_unknown_users=st.sampled_from([True, True, True, False]),
        created=st.sampled_from(["abcd", "abc", "ab", ""]),
        known=st.sampled_from([True, True, True, False]),
    )
    def begin(self, partitions: int, created: str, known: bool, **limits: Any) -> None:
        self.world = CheckedWorld(partitions, **limits)
        self.ids: dict[str, list[str]] = {}
        for segment in created:
            self.world.send(type="create_segment", segment=segment)
        for user in range(4 if known else 0):
            self.world.user("active", user_id(user))
        self.world.run()

    def _id(self, scope: str, again: int) -> str:
        """A new id, or one given before for the same user or segment."""
        given = self.ids.setdefault(scope, [])
        if 0 < again <= len(given):
            return given[-again]
        given.append(f"{scope}-{len(given)}")
        return given[-1]

    @rule(batch=st.lists(changes(), min_size=1, max_size=8), arrives=st.booleans())
    def users_change(self, batch: list[dict[str, Any]], arrives: bool) -> None:
        for change in batch:
            self.world.send(
                change["source"],
                type="change_memberships",
                id=self._id(f"user{change['user']}", change["again"]),
                user_id=user_id(change["user"]),
                add=[self._addition(*addition) for addition in change["add"]],
                remove=change["remove"],
            )
        self._go_on(arrives)

    def _go_on(self, arrives: bool) -> None:
        if arrives:
            self.world.run()

    def _addition(self, segment: str, end: tuple[str, int] | None) -> dict[str, Any]:
        if end is None:
            return {"segment": segment}
        kind, ms = end
        if kind == "ttl":
            return {"segment": segment, "ttl": ms / 1000}
        return {"segment": segment, "expires_at": to_rfc3339(self.world.clock_ms + ms)}

    @rule(
        kinds=st.sampled_from([["create"], ["delete"], ["update"], ["delete", "create"]]),
        segment=SEGMENTS,
        again=st.sampled_from([0, 0, 0, 1, 2]),
        source=st.integers(0, 1),
        arrives=st.booleans(),
    )
    def segment_changes(
        self, kinds: list[str], segment: str, again: int, source: int, arrives: bool
    ) -> None:
        for kind in kinds:
            more = {"description": f"{len(self.ids)}"} if kind == "update" else {}
            self.world.send(
                source,
                type=f"{kind}_segment",
                id=self._id(segment, again),
                segment=segment,
                actor=kind,
                **more,
            )
        self._go_on(arrives)

    @rule(
        user=USERS,
        account=st.sampled_from(["active", "blocked", "deleted"]),
        version=st.sampled_from([None, 1, 2, 3]),
        topic=st.sampled_from(["r", "r", "r", "s"]),
        offset=st.integers(0, 4),
    )
    def user_service_answers(
        self, user: int, account: str, version: int | None, topic: str, offset: int
    ) -> None:
        refresh = (topic, 0, offset)
        self.world.user(account, user_id(user), refresh=refresh, version=version)

    @rule(ms=PASSING_MS)
    def time_passes(self, ms: int) -> None:
        self.world.advance_clock(ms)

    @rule(partition=PARTITIONS, count=st.integers(1, 30))
    def shard_goes_on(self, partition: int, count: int) -> None:
        partition %= self.world.partitions
        for _ in range(min(count, self.world.shards[partition].behind)):
            self.world.apply(partition)

    @rule(writer=PARTITIONS, reader=PARTITIONS, count=st.integers(1, 5))
    def message_arrives(self, writer: int, reader: int, count: int) -> None:
        way = (writer % self.world.partitions, reader % self.world.partitions)
        for _ in range(min(count, len(self.world.in_flight[way]))):
            self.world.deliver(*way)

    @rule()
    def everything_arrives(self) -> None:
        self.world.run()

    @rule(partition=PARTITIONS)
    def tick(self, partition: int) -> None:
        self.world.append_tick(partition % self.world.partitions)

    @rule(source=st.integers(0, 1), count=st.integers(1, 12))
    def router_starts_anew(self, source: int, count: int) -> None:
        self.world.redeliver(source, count)

    @rule(partition=PARTITIONS, checkpoint=st.booleans(), crash=st.booleans())
    def checkpoint_or_crash(self, partition: int, checkpoint: bool, crash: bool) -> None:
        shard = self.world.shards[partition % self.world.partitions]
        if checkpoint:
            shard.checkpoint()
        if crash:
            shard.crash()

    @precondition(lambda self: hasattr(self, "world"))
    @invariant()
    def readers_see_what_they_should(self) -> None:
        self.world.compare_views()

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.advance_clock(10_000)
            self.world.settle()
            self.world.tick()
            self.world.compare_all()
            self.world.check()


Shards.TestCase.settings = SETTINGS
TestShards = pytest.mark.timeout(300)(Shards.TestCase)
