"""Checkpoints of a shard: what they produce and write, and how failures end."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import orjson
import pytest
from quixstreams.state.base.transaction import PartitionTransactionStatus

from segments.contracts.documents import ProgressMarker, UserDocument
from segments.state.machine.config import LogRecord
from segments.state.machine.documents import SHARD_KEY, user_key
from segments.state.rocksdb import open_database
from segments.state.store.partition import CHANGELOG_OFFSET_KEY, UncommittedStateError
from tests.support.store_fakes import PARTITION, Host

ALICE = "00000000-0000-4000-8000-00000000000a"
BOB = "00000000-0000-4000-8000-00000000000b"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    host = Host(tmp_path / "shard")
    _apply(host, "define", {"segment": "A", "generation": 1, "version": 1, "state": "active"})
    _apply(host, "define", {"segment": "B", "generation": 1, "version": 1, "state": "active"})
    host.checkpoint()
    return host


def _apply(host: Host, kind: str, value: dict[str, object]) -> None:
    shard = host.partition.shard
    offset = shard.shard["offset"] + 1
    shard.apply(LogRecord(kind, value, offset, 1_000 + offset))


def _change(host: Host, user_id: str, *add: str) -> None:
    number = host.partition.shard.shard["offset"]
    additions = [[segment, None, None] for segment in add]
    change: dict[str, object] = {
        "id": f"c{number}",
        "user_id": user_id,
        "add": additions,
        "remove": [],
    }
    _apply(host, "change", change)


class TestOncePerCheckpoint:
    def test_a_document_changed_many_times_is_written_once(self, host: Host) -> None:
        for segment in ("A", "B", "A", "B"):
            _change(host, ALICE, segment)
            _change(host, BOB, segment)
        produced = host.checkpoint()

        rows = Counter(each.key for each in produced if each.topic == "changelog")
        assert rows == {SHARD_KEY: 1, user_key(ALICE): 1, user_key(BOB): 1}
        documents = [each for each in produced if each.topic == "segments.users"]
        assert [each.key for each in documents] == [
            ALICE.encode(),
            BOB.encode(),
            b"!progress/%d" % PARTITION,
        ]
        assert {each.partition for each in produced} == {PARTITION}

    def test_public_documents_and_the_marker_have_the_newest_state(self, host: Host) -> None:
        _change(host, ALICE, "A")
        _change(host, ALICE, "B")
        *_, document, marker = [e for e in host.checkpoint() if e.topic == "segments.users"]
        alice = UserDocument.model_validate(orjson.loads(document.value or b""))
        assert sorted(alice.segments) == ["A", "B"]
        assert alice.position == f"{PARTITION}:3"
        progress = ProgressMarker.model_validate(orjson.loads(marker.value or b""))
        assert (progress.log_offset, progress.history_rows) == (3, 2)

    def test_an_unchanged_document_is_not_written_again(self, host: Host) -> None:
        _change(host, ALICE, "A")
        host.checkpoint()
        _change(host, BOB, "A")
        keys = [each.key for each in host.checkpoint()]
        assert user_key(ALICE) not in keys
        assert ALICE.encode() not in keys

    def test_a_record_that_changes_no_user_advances_the_marker(self, host: Host) -> None:
        _apply(host, "tick", {})
        keys = [each.key for each in host.checkpoint()]
        assert keys == [b"!progress/%d" % PARTITION, SHARD_KEY]

    def test_nothing_is_produced_when_nothing_has_changed(self, host: Host) -> None:
        assert not host.transaction.changed
        assert host.prepare() == []
        host.transaction.flush(None)
        assert host.transaction.status is PartitionTransactionStatus.COMPLETE


class TestChangelog:
    def test_every_changelog_row_has_its_source_offsets(self, host: Host) -> None:
        _change(host, ALICE, "A")
        rows = [each for each in host.checkpoint() if each.topic == "changelog"]
        assert len(rows) == 2
        for row in rows:
            assert row.headers["__column_family__"] == "default"
            assert orjson.loads(row.headers["__processed_tp_offsets__"]) == {"segments.shards": 41}

    def test_quix_gets_a_delivery_callback_for_the_last_row_only(self, host: Host) -> None:
        """Its offset becomes the store's: rows before it must lie before it."""
        _change(host, ALICE, "A")
        _change(host, BOB, "A")
        produced = host.checkpoint()
        assert [each.with_callback for each in produced] == [False] * (len(produced) - 1) + [True]
        assert produced[-1].topic == "changelog"

    def test_a_deleted_document_leaves_a_tombstone(self, host: Host) -> None:
        host.partition.put(b"jA", {"job": 1})
        host.checkpoint()
        host.partition.delete(b"jA")
        assert host.partition.get(b"jA") is None
        assert [(e.key, e.value) for e in host.checkpoint() if e.key == b"jA"] == [(b"jA", None)]
        assert host.partition.get(b"jA") is None
        host.reopen()
        assert host.partition.get(b"jA") is None

    def test_put_and_deleted_between_two_checkpoints_is_deleted(self, host: Host) -> None:
        host.partition.put(b"jA", {"job": 1})
        host.partition.delete(b"jA")
        assert [(e.key, e.value) for e in host.checkpoint() if e.key == b"jA"] == [(b"jA", None)]

    def test_the_offset_is_stored_with_the_documents(self, host: Host) -> None:
        _change(host, ALICE, "A")
        host.checkpoint()
        last = len(host.broker.changelog) - 1
        assert host.partition.get_changelog_offset() == last
        host.reopen()
        assert host.partition.get_changelog_offset() == last
        assert host.partition.get(user_key(ALICE)) is not None


class TestFailure:
    def test_an_abandoned_checkpoint_cannot_be_continued(self, host: Host) -> None:
        _change(host, ALICE, "A")
        host.prepare()  # and the commit fails
        with pytest.raises(UncommittedStateError, match="not committed"):
            host.partition.begin()

    def test_an_abandoned_checkpoint_without_prepare_cannot_be_continued(self, host: Host) -> None:
        _change(host, ALICE, "A")
        with pytest.raises(UncommittedStateError, match="not committed"):
            host.partition.begin()

    def test_uncommitted_changes_are_not_in_the_store(self, host: Host) -> None:
        before = host.documents()
        _change(host, ALICE, "A")
        host.prepare()
        host.reopen()
        assert host.documents() == before
        assert host.partition.shard.shard["offset"] == 1
        _change(host, ALICE, "A")
        assert any(each.key == ALICE.encode() for each in host.checkpoint())

    def test_a_partition_revoked_during_its_checkpoint_commits_nothing(self, host: Host) -> None:
        _change(host, ALICE, "A")
        host.partition.close()
        with pytest.raises(UncommittedStateError, match="was revoked"):
            host.prepare()
        with pytest.raises(UncommittedStateError, match="was revoked"):
            host.partition.begin()
        assert host.broker.open == []

    def test_close_is_idempotent(self, host: Host) -> None:
        host.partition.close()
        host.partition.close()
        open_database(host.folder).close()

    def test_rows_without_a_known_offset_are_not_written(self, host: Host) -> None:
        _change(host, ALICE, "A")
        host.prepare()
        with pytest.raises(AssertionError, match="offset"):
            host.transaction.flush(None)


_WRITES_UNTIL_KILLED = """
import pathlib, sys
from tests.support.store_fakes import Host
host = Host(pathlib.Path(sys.argv[1]))
host.partition.shard
number = 0
while True:
    for name in (b"k1", b"k2", b"k3"):
        host.partition.put(name, {"number": number, "filling": "x" * 20_000})
    host.checkpoint()
    number += 1
    if number == 50:
        print("going", flush=True)
"""


def test_kill_leaves_documents_and_offset_of_one_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "shard"
    argv = [sys.executable, "-c", _WRITES_UNTIL_KILLED, str(folder)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "going\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGKILL)
    database = open_database(folder)
    try:
        numbers = [orjson.loads(database[key] or b"")["number"] for key in (b"k1", b"k2", b"k3")]
        # Three rows a checkpoint, the first of which has the offset 0.
        assert int(database[CHANGELOG_OFFSET_KEY] or b"") == 3 * numbers[0] + 2
        assert len(set(numbers)) == 1
        assert numbers[0] >= 49
    finally:
        database.close()
