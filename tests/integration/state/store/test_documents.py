"""Documents of the store, compared with a dictionary across cache evictions and restores."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from segments.state.machine.digest import digest
from segments.state.machine.documents import SHARD_KEY, new_user, user_key
from segments.state.store.partition import IncompleteStateError
from tests.support.machine.hosted_shard import encoded
from tests.support.machine.random_commands import RandomCommands
from tests.support.machine.world import World
from tests.support.store_fakes import Host

KEYS = st.sampled_from([b"k%d" % number for number in range(12)])
VALUES = st.dictionaries(st.sampled_from("abc"), st.text(max_size=60), max_size=3)


class Documents(RuleBasedStateMachine):
    """Against two dictionaries: what is live, and what was committed.

    The cache has room for about two documents, so that most of them go through the database.
    """

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp())
        self._numbers = itertools.count()
        self._host = Host(self._next_folder(), cache_bytes=60)
        assert self._host.partition.shard.jobs == 0
        self._live: dict[bytes, Any] = {}
        self._committed: dict[bytes, Any] = {}

    def _next_folder(self) -> Path:
        return self._folder / str(next(self._numbers))

    def teardown(self) -> None:
        self._host.partition.close()
        shutil.rmtree(self._folder)

    @rule(key=KEYS, value=VALUES)
    def put(self, key: bytes, value: dict[str, str]) -> None:
        self._host.partition.put(key, dict(value))
        self._live[key] = value

    @rule(key=KEYS, name=st.sampled_from("abc"), text=st.text(max_size=60))
    def change_the_live_document(self, key: bytes, name: str, text: str) -> None:
        document = self._host.partition.get(key)
        if document is None:
            assert key not in self._live
            return
        document[name] = text
        self._host.partition.put(key, document)
        self._live[key] = self._live[key] | {name: text}

    @rule(key=KEYS)
    def delete(self, key: bytes) -> None:
        self._host.partition.delete(key)
        self._live.pop(key, None)

    @rule(key=KEYS)
    def get(self, key: bytes) -> None:
        assert self._host.partition.get(key) == self._live.get(key)
        assert self._host.partition.exists(key) == (key in self._live)

    @rule()
    def commit(self) -> None:
        changed = self._host.partition.changed
        produced = [each.key for each in self._host.checkpoint() if each.topic == "changelog"]
        assert len(produced) == len(set(produced))
        assert bool(produced) == changed
        self._committed = dict(self._live)

    @rule()
    def crash(self) -> None:
        self._host.reopen()
        assert self._host.partition.shard.jobs == 0
        self._live = dict(self._committed)

    @rule()
    def move_to_another_machine(self) -> None:
        self._host.restore(self._next_folder())
        assert self._host.partition.shard.jobs == 0
        self._live = dict(self._committed)

    @precondition(lambda self: not self._host.partition.changed)
    @rule(prefix=st.sampled_from([b"k", b"k1", b"x"]))
    def scan(self, prefix: bytes) -> None:
        found = list(self._host.partition.scan(prefix))
        expected = {k: v for k, v in self._live.items() if k.startswith(prefix)}
        assert found == sorted(expected.items())

    @invariant()
    def a_live_document_is_one_object(self) -> None:
        for key in self._live:
            assert self._host.partition.get(key) is self._host.partition.get(key)


Documents.TestCase.settings = settings(max_examples=40, stateful_step_count=60, deadline=None)
TestDocuments = Documents.TestCase


def test_a_scan_with_uncommitted_changes_is_rejected(tmp_path: Path) -> None:
    host = Host(tmp_path / "shard")
    host.partition.put(b"k", {})
    with pytest.raises(AssertionError, match="not yet committed"):
        next(host.partition.scan(b"k"))


@pytest.mark.parametrize("seed", range(4))
def test_outputs_do_not_depend_on_cache_evictions_or_crashes(tmp_path: Path, seed: int) -> None:
    """A document changed without being put again would be lost with the cache, or by a crash."""
    random = Random(seed)
    world = World(remembered_ids=3)
    commands = RandomCommands(world, seed, users=25, segments=5)
    commands.create_all()
    for _ in range(60):
        commands.send(10)
        commands.deliver_some()
    world.settle()
    [expected] = world.shards

    folders = (tmp_path / str(number) for number in itertools.count())
    host = Host(next(folders), cache_bytes=700, config=expected.config)
    committed = 0
    while committed < expected.applied:
        upto = min(committed + random.choice([1, 2, 5, 40]), expected.applied)
        for offset in range(committed, upto):
            outputs = host.partition.shard.apply(expected.record(offset))
            assert encoded(outputs) == expected.outputs[offset]
        fate = random.random()
        if fate < 0.15:
            host.reopen()
        elif fate < 0.2:
            host.restore(next(folders))
        else:
            host.checkpoint()
            committed = upto
    host.reopen()
    assert digest(host.documents()) == expected.digest()


def test_a_store_with_a_missing_user_is_rejected(tmp_path: Path) -> None:
    host = Host(tmp_path / "shard")
    for ordinal, name in enumerate("ab"):
        user_id = f"00000000-0000-4000-8000-00000000000{name}"
        host.partition.shard.population.add_user(ordinal, user_id)
        host.partition.put(user_key(user_id), new_user(ordinal))
    host.partition.shard.shard["next_ordinal"] = 2
    host.partition.put(SHARD_KEY, host.partition.shard.shard)
    host.checkpoint()
    host.reopen()
    assert host.partition.shard.population.users == 2

    lost = user_key("00000000-0000-4000-8000-00000000000a")
    host.broker.changelog = [row for row in host.broker.changelog if row[0] != lost]
    host.restore(tmp_path / "elsewhere")
    with pytest.raises(IncompleteStateError, match="1 of its 2 users"):
        _ = host.partition.shard


def test_the_cache_keeps_the_last_written_documents_within_its_limit(tmp_path: Path) -> None:
    host = Host(tmp_path / "shard", cache_bytes=2_000)
    assert host.partition.shard.jobs == 0
    live = {}
    for number in range(200):
        key = b"k%03d" % number
        live[key] = {"number": number, "filling": "x" * 50}
        host.partition.put(key, live[key])
        host.partition.put(b"hot", {"number": number})
        host.checkpoint()
    assert host.partition.cached_bytes <= 2_000
    assert host.partition.get(b"k199") is live[b"k199"]
    assert host.partition.get(b"k190") is live[b"k190"]
    first = host.partition.get(b"k000")
    assert first == live[b"k000"]
    assert first is not live[b"k000"]


def test_a_document_larger_than_the_cache_is_kept(tmp_path: Path) -> None:
    host = Host(tmp_path / "shard", cache_bytes=100)
    assert host.partition.shard.jobs == 0
    host.partition.put(b"k", {"filling": "x" * 1_000})
    host.checkpoint()
    document = host.partition.get(b"k")
    document["filling"] = "y"
    host.partition.put(b"k", document)
    host.checkpoint()
    host.reopen()
    assert host.partition.get(b"k") == {"filling": "y"}
