"""The view compared with an oracle: random records in random batches, with crashes."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any
from uuid import UUID

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from segments.state.view import keys
from segments.state.view.writer import ViewBatch
from tests.support.view import view_records
from tests.support.view.oracle import Mark, Oracle, differences

USERS = [str(UUID(int=n << 64 | n)) for n in range(1, 5)]
SEGMENTS = ["A", "AB", "ü", "A:1"]
NOW_MS = 1_000

users = st.sampled_from(USERS)
names = st.sampled_from(SEGMENTS)
partitions = st.integers(0, 2)
memberships = st.dictionaries(
    names,
    st.builds(
        view_records.held,
        st.integers(1, 3),
        st.sampled_from([None, NOW_MS - 1, NOW_MS, NOW_MS + 1]),
    ),
    max_size=4,
)


class ViewMachine(RuleBasedStateMachine):
    """The oracle takes what is in the open batch when the batch is written, as a reader does."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="view-model-"))
        self.view = view_records.opened(self.folder / "view")
        self.oracle = Oracle()
        self.offset = 0
        self.begin()

    def begin(self) -> None:
        self.batch = ViewBatch(self.view)
        self.taken: list[tuple[str, Any]] = []

    @rule(user=users, segments=memberships)
    def user_record(self, user: str, segments: dict[str, Any]) -> None:
        self.batch.user(user.encode(), view_records.document(user, segments))
        self.taken.append(("user", (user, segments)))

    @rule(user=users)
    def user_removed(self, user: str) -> None:
        self.batch.user(user.encode(), None)
        self.taken.append(("user", (user, None)))

    @rule(segment=names, deleted=st.booleans(), again=st.booleans(), partition=partitions)
    def definition_record(self, segment: str, deleted: bool, again: bool, partition: int) -> None:
        newest = [
            fields for kind, fields in self.taken if kind == "define" and fields[0] == segment
        ]
        known = newest[-1][1] if newest else self.oracle.definitions.get(segment, (1, False))[0]
        generation = known + again
        self.offset += 1
        self.batch.definition(
            segment.encode(),
            view_records.definition(
                segment,
                generation,
                state="deleted" if deleted else "active",
                position=f"{partition}:{self.offset}",
            ),
        )
        self.taken.append(("define", (segment, generation, deleted, partition, self.offset)))

    @rule(partition=partitions, ahead=st.integers(-2, 2))
    def marker_record(self, partition: int, ahead: int) -> None:
        self.offset += 1
        mark = Mark(self.offset, self.offset + ahead)
        self.batch.user(
            view_records.progress_key(partition),
            view_records.marker(mark.log_offset, defined=mark.defined),
        )
        self.taken.append(("mark", (partition, mark)))

    @rule(number=st.integers(0, 4), at_ms=st.integers(0, 50))
    def result_record(self, number: int, at_ms: int) -> None:
        self.batch.result(f"c{number}".encode(), view_records.result(f"c{number}"), at_ms)
        self.taken.append(("result", (f"c{number}", at_ms)))

    @precondition(lambda self: self.taken)
    @rule(partition=partitions)
    def write(self, partition: int) -> None:
        self.offset += 1
        self.batch.consumed("segments.users", partition, self.offset)
        self.batch.write()
        self.oracle.offsets["segments.users", partition] = self.offset
        before = self.oracle.progress()
        self._take()
        advanced = {n for n, place in self.oracle.progress().items() if before.get(n) != place}
        assert advanced <= set(self.batch.advanced)
        self.begin()

    def _take(self) -> None:
        oracle = self.oracle
        counted = oracle.progress()
        marks: dict[int, Mark] = {}
        for kind, fields in self.taken:
            if kind == "user":
                user, segments = fields
                oracle.users.pop(user, None)
                if segments is not None:
                    oracle.users[user] = segments
            elif kind == "define":
                segment, generation, deleted, partition, offset = fields
                oracle.definitions[segment] = (generation, deleted)
                oracle.defined[partition] = offset
            elif kind == "mark":
                marks[fields[0]] = fields[1]
            else:
                oracle.results[fields[0]] = fields[1]
        # Of markers that wait for their definitions only the last is looked at: it says more.
        for partition, mark in marks.items():
            before = oracle.marks.get(partition, [])
            kept = [old for old in before if old.log_offset == counted.get(partition)]
            oracle.marks[partition] = [*kept, mark]

    @rule(before_ms=st.integers(0, 60), limit=st.integers(1, 3))
    def forget(self, before_ms: int, limit: int) -> None:
        old = self.view.old_results(before_ms, limit)
        batch = ViewBatch(self.view)
        for age_key in old:
            batch.forget_result(age_key)
        batch.write()
        for age_key in old:
            at_ms, command_id = int.from_bytes(age_key[1:9], "big"), age_key[9:].decode()
            assert at_ms < before_ms
            if self.oracle.results.get(command_id) == at_ms:
                del self.oracle.results[command_id]

    @rule()
    def crash(self) -> None:
        """What was not written is gone; everything else is there again."""
        counted = self.oracle.progress()
        self.view.close()
        self.view = view_records.opened(self.folder / "view")
        self.begin()
        # A newer marker that waits for its definitions has taken the place of the one that counts.
        for partition, mark in list(self.oracle.marks.items()):
            self.oracle.marks[partition] = mark[-1:]
        assert self.oracle.progress().items() <= counted.items()

    @invariant()
    def shows_what_was_written(self) -> None:
        assert differences(self.view, self.oracle, USERS, NOW_MS) == []
        for number in range(5):
            command_id = f"c{number}"
            shown = self.view.result(command_id) is not None
            assert shown == (command_id in self.oracle.results)
        ages = {key for key, _ in self.view.scan(keys.RESULT_AGE_RANGE)}
        newest = {
            keys.result_age_key(at_ms, command_id.encode())
            for command_id, at_ms in self.oracle.results.items()
        }
        assert newest <= ages, "each result can be forgotten"

    def teardown(self) -> None:
        self.view.close()
        shutil.rmtree(self.folder)


ViewMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
TestViewModel = ViewMachine.TestCase
