"""Restore of a shard's state from its changelog, refused if it may be incomplete."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from quixstreams.exceptions import PartitionAssignmentError

from segments.kafka import topics
from segments.settings import Settings
from segments.state.rocksdb import open_database
from segments.state.store.partition import ShardPartition
from segments.streams import maintenance, shards, startup_checks
from tests.support import deployments, quix_apps

PARTITION = 1
USERS = 50


@pytest.fixture(scope="module")
def settings(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A deployment whose shards hold some users; each test leaves it as it found it."""
    with deployments.deployment(broker, tmp_path_factory.mktemp("restore") / "data") as deployment:
        _fill(deployment)
        yield deployment


def _fill(settings: Settings) -> None:
    quix_apps.define(settings, "A")
    for number, user in enumerate(quix_apps.users_of(settings, PARTITION, USERS)):
        quix_apps.change(settings, user, f"c{number}", "A")
    _run(settings)


def _run(settings: Settings) -> dict[int, maintenance.PartitionDigest]:
    """Run the shards until all users are there; every shard's digest."""
    app = shards.build(settings)
    store = app._state_manager.get_store(stream_id="shards", store_name="default")

    def done() -> bool:
        # Directly after the recovery; until then no machine is used.
        if app._state_manager.recovery_required or len(store.partitions) < settings.partitions:
            return False
        stored = store.partitions[PARTITION]
        assert isinstance(stored, ShardPartition)
        return bool(stored.shard.shard["next_ordinal"] == USERS)

    quix_apps.run_until(app, done, "every user")
    return {digest.partition: digest for digest in maintenance.digests(settings)}


def _folder(settings: Settings) -> Path:
    return maintenance.state_dir(settings) / str(PARTITION)


def _assert_whole(settings: Settings, digests: dict[int, maintenance.PartitionDigest]) -> None:
    assert sorted(digests) == list(range(settings.partitions))
    assert all(each.stored == each.replayed for each in digests.values())


def test_a_deleted_store_is_restored_before_processing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    recover = ShardPartition.recover_from_changelog_message

    def watched_recover(self: ShardPartition, *args: Any, **options: Any) -> None:
        events.append("row")
        recover(self, *args, **options)

    every_loop = shards.Shards.every_loop

    def watched_loop(self: shards.Shards) -> None:
        events.append("assigned" if self.store.assigned() else "idle")
        every_loop(self)

    monkeypatch.setattr(ShardPartition, "recover_from_changelog_message", watched_recover)
    monkeypatch.setattr(shards.Shards, "every_loop", watched_loop)
    shutil.rmtree(maintenance.state_dir(settings))

    _assert_whole(settings, _run(settings))

    rows = [number for number, event in enumerate(events) if event == "row"]
    assert len(rows) >= USERS
    between = events[rows[0] : rows[-1]]
    assert set(between) == {"row"}, "nothing else happens during a recovery"
    assert "assigned" not in events[: rows[0]]
    assert "assigned" in events[rows[-1] :]


@pytest.mark.parametrize("damage", ["CURRENT", "MANIFEST-*"])
def test_a_damaged_folder_is_restored(settings: Settings, damage: str) -> None:
    for path in _folder(settings).glob(damage):
        path.write_bytes(b"nonsense")
    _assert_whole(settings, _run(settings))


def test_a_damaged_block_ends_the_process_and_is_restored_by_the_next(settings: Settings) -> None:
    database = open_database(_folder(settings))
    database.flush()
    database.close()
    [table] = _folder(settings).glob("*.sst")
    content = bytearray(table.read_bytes())
    content[len(content) // 4] ^= 0xFF
    table.write_bytes(content)

    with pytest.raises(Exception, match="Corruption"):
        _run(settings)
    assert not _folder(settings).exists()
    _assert_whole(settings, _run(settings))


@pytest.fixture
def holder(settings: Settings) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the shard's database open."""
    script = (
        "import sys, pathlib\n"
        "from segments.state.rocksdb import open_database\n"
        "database = open_database(pathlib.Path(sys.argv[1]))\n"
        "print('open', flush=True)\n"
        "sys.stdin.read()\n"
    )
    argv = [sys.executable, "-c", script, str(_folder(settings))]
    process = subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    yield process
    process.kill()
    process.wait()


def test_a_locked_store_is_left_alone(settings: Settings, holder: subprocess.Popen[str]) -> None:
    before = sorted(path.name for path in _folder(settings).glob("*.sst"))
    with pytest.raises(PartitionAssignmentError) as raised:
        _run(settings)
    assert "LOCK" in str(raised.value.__cause__)
    assert holder.poll() is None
    assert sorted(path.name for path in _folder(settings).glob("*.sst")) == before
    assert (_folder(settings) / "CURRENT").exists()


def test_a_recreated_changelog_prevents_the_start(deployment: Settings) -> None:
    _fill(deployment)
    admin = AdminClient(deployment.client_config())
    name = startup_checks.changelog_topic(deployment)
    admin.delete_topics([name])[name].result(timeout=30)
    deployments.wait_until(
        lambda: name not in admin.list_topics(timeout=30).topics, what="the topic's end"
    )
    topics.apply(deployment)
    shutil.rmtree(maintenance.state_dir(deployment))
    with pytest.raises(startup_checks.StartRefusedError, match="ends at offset -1"):
        _run(deployment)


def test_changelog_rows_hidden_by_an_open_transaction_prevent_the_start(
    deployment: Settings,
) -> None:
    """Another instance's transaction was left open in the changelog before these rows came."""
    _fill(deployment)
    name = startup_checks.changelog_topic(deployment)
    hanging = Producer(deployment.client_config() | {"transactional.id": name})
    hanging.init_transactions(30)
    hanging.begin_transaction()
    hanging.produce(name, b"never", b"never", partition=PARTITION)
    hanging.flush(30)
    user = quix_apps.users_of(deployment, PARTITION, 1)[0]
    quix_apps.change(deployment, user, "again", "A")
    before = quix_apps.committed(deployment)[PARTITION]

    def committed_more() -> bool:
        return quix_apps.committed(deployment)[PARTITION] != before

    quix_apps.run_until(shards.build(deployment), committed_more, "the commit of a hidden row")
    shutil.rmtree(maintenance.state_dir(deployment))

    with pytest.raises(startup_checks.StartRefusedError, match="committed offset is"):
        _run(deployment)
    hanging.abort_transaction(30)
    _assert_whole(deployment, _run(deployment))
