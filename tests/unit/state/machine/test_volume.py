"""A long log applied by one shard: compared with the oracle, and with a replay.

It has 40,000 records, or VOLUME_RECORDS if that is more; scripts/soak has 300,000.
"""

from __future__ import annotations

import gc
import hashlib
import os
import secrets
from collections import deque
from collections.abc import Iterator
from random import Random
from typing import Any, NamedTuple

import orjson
import pytest

from segments.state.machine.config import Config, LogRecord
from segments.state.machine.digest import MemoryState, digest
from segments.state.machine.documents import user_key
from segments.state.machine.shard import Shard
from tests.support.machine.checked_world import _held, _rows
from tests.support.machine.hosted_shard import Produced, encoded
from tests.support.machine.oracle import Oracle
from tests.support.machine.world import START_MS, Row, row_of, user_id

RECORDS = max(40_000, int(os.environ.get("VOLUME_RECORDS", "0")))
USERS = min(3_000, RECORDS // 25)
SEGMENTS = [f"s{number}" for number in range(40)]
CONFIG = Config(0, 1, job_slice=300)
TICK_EVERY = 1_000


@pytest.fixture
def no_collection() -> Iterator[None]:
    """Millions of live objects and no cycles: the collector would only walk over them."""
    gc.disable()
    yield
    gc.enable()


class Feed:
    """The log out of a seed: a new one gives the same records, if the same messages come back."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._commands = 0
        self._at = START_MS
        self.offset = -1
        self.messages: deque[Produced] = deque()

    def next(self) -> LogRecord:
        self.offset += 1
        random = self._random
        if self.messages:
            return self._record("define", orjson.loads(self.messages.popleft().value))
        if self.offset % TICK_EVERY == 0 or self.offset >= RECORDS:
            self._at += 500
            return self._record("tick", {})
        self._at += random.randrange(-1, 3)
        if self.offset < 1_000 and self.offset % 20 == 1:
            return self._segment("create", SEGMENTS[self.offset // 20 % len(SEGMENTS)])
        kind = random.random()
        if kind < 0.97:
            return self._change(random.randrange(USERS))
        if kind < 0.999:
            return self._user(random.randrange(USERS))
        return self._segment(random.choice(["create", "create", "delete"]), random.choice(SEGMENTS))

    def _record(self, kind: str, value: dict[str, Any], *, numbered: bool = False) -> LogRecord:
        source = ("c0ffee:0", self._commands) if numbered else None
        return LogRecord(kind, value, self.offset, self._at, source)

    def _command_id(self) -> str:
        self._commands += 1
        return f"c{self._commands}"

    def _segment(self, kind: str, segment: str) -> LogRecord:
        value = {"id": self._command_id(), "segment": segment}
        return self._record(kind, value, numbered=True)

    def _change(self, number: int) -> LogRecord:
        random = self._random
        first = random.randrange(len(SEGMENTS))
        second = (first + random.randrange(1, len(SEGMENTS))) % len(SEGMENTS)
        ttl_ms = random.choice([None, None, None, 1, 3_000, 60_000])
        value = {
            "id": f"again{number}" if random.random() < 0.02 else self._command_id(),
            "user_id": user_id(number),
            "add": [[SEGMENTS[first], ttl_ms, None]],
            "remove": [SEGMENTS[second]] if random.random() < 0.5 else [],
        }
        if random.random() < 0.001:
            value["remove"] = [f"nowhere{self.offset}"]
        return self._record("change", value, numbered=True)

    def _user(self, number: int) -> LogRecord:
        value = {
            "user_id": user_id(number),
            "account": self._random.choice(["active", "active", "active", "blocked", "deleted"]),
            "version": None,
            "refresh": ["r", 0, self.offset - self._random.choice([0, 0, 100])],
        }
        return self._record("user", value)


class Run(NamedTuple):
    state: MemoryState
    shard: Shard
    output_digest: str
    """Digest of all outputs."""


def run(seed: int, oracle: Oracle | None, rows: list[Row]) -> Run:
    feed, state = Feed(seed), MemoryState()
    shard = Shard(CONFIG, state)
    output_digest = hashlib.sha256()
    while feed.offset < RECORDS or feed.messages or shard.next_due_ms() == 0:
        record = feed.next()
        outputs = encoded(shard.apply(record))
        feed.messages.extend(o for o in outputs if o.topic == "segments.shards")
        for output in outputs:
            output_digest.update(
                b"%b %b %b;" % (output.topic.encode(), output.key.encode(), output.value)
            )
        if oracle is not None:
            rows.extend(row_of(o.value) for o in outputs if o.topic == "segments.history")
            _judge(oracle, record, outputs)
    return Run(state, shard, output_digest.hexdigest())


def _judge(oracle: Oracle, record: LogRecord, outputs: list[Produced]) -> None:
    results = [orjson.loads(o.value) for o in outputs if o.topic == "segments.results"]
    outcomes = [(r["command_id"], r["status"], (r["error"] or {}).get("code")) for r in results]
    answers = oracle.apply(record, {command_id for command_id, _, _ in outcomes})
    assert sorted(outcomes) == sorted((c, a["status"], a["code"]) for c, a in answers)


@pytest.mark.timeout(600)
def test_a_long_log_matches_the_oracle_and_its_replay(no_collection: None) -> None:
    oracle, rows = Oracle(CONFIG), list[Row]()
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    first = run(seed, oracle, rows)

    assert first.shard.shard["next_ordinal"] == USERS == len(oracle.users)
    for user, expected in oracle.users.items():
        state = first.state.get(user_key(user))
        held = {name: (h.since, h.end, h.generation) for name, h in expected.held.items()}
        live = {n: h for n, h in _held(state).items() if h[1] is None or h[1] > oracle.now}
        assert live == {n: h for n, h in held.items() if h[1] is None or h[1] > oracle.now}
    assert first.shard.shard["history_rows"] == len(rows)
    assert len(rows) > RECORDS / 3
    assert {row.cause for row in rows} == {
        "command",
        "expired",
        "segment_deleted",
        "user_deleted",
    }
    assert _rows(rows) == _rows(oracle.rows)

    again = run(seed, None, [])
    assert again.output_digest == first.output_digest
    assert digest(again.state.scan(b"")) == digest(first.state.scan(b""))
