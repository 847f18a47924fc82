"""Behaviour of Quix Streams that `streams/quix.py` and the store depend on, with a real broker.

A new version of the library may break each of these: review them one by one when upgrading.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import quixstreams
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from quixstreams.state.base.transaction import PartitionTransactionStatus

from segments.kafka import topics
from segments.kafka.clients import Record, idempotent_producer, topic_ids
from segments.settings import Settings
from segments.state.machine.documents import SHARD_KEY
from segments.state.rocksdb import open_database
from segments.state.store.partition import CHANGELOG_OFFSET_KEY, ShardPartition, ShardTransaction
from segments.state.store.store import ShardStore
from segments.streams import maintenance, quix, quix_store, shards
from segments.streams.startup_checks import changelog_topic
from tests.support import deployments, quix_apps
from tests.support.records import Read, read, send

PIN = "3.28.1"
LOG = "segments.shards"
PARTITION = 2
USERS = 30


def test_the_version_is_the_pinned_one() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))
    assert f"quixstreams=={PIN}" in project["project"]["dependencies"]
    assert quixstreams.__version__ == PIN


def _shard_store(app: Any) -> ShardStore:
    store = app._state_manager.get_store(stream_id="shards", store_name="default")
    assert type(store) is ShardStore
    return store


def _applied(app: Any, partition: int) -> int:
    stored = _shard_store(app).partitions.get(partition)
    assert stored is None or isinstance(stored, ShardPartition)
    return -1 if stored is None else stored.shard.shard["offset"]


def _changelog(settings: Settings) -> list[Read]:
    # Its name on the cluster has the prefix within, not in front.
    bare = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"prefix": ""})})
    return read(bare, changelog_topic(settings))


@pytest.fixture(scope="module")
def after(broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A deployment after one run of the real application; read only."""
    with deployments.deployment(broker, tmp_path_factory.mktemp("run") / "data") as settings:
        _run_once(settings)
        yield settings


def _run_once(settings: Settings) -> None:
    quix_apps.define(settings, "A")
    for number, user in enumerate(quix_apps.users_of(settings, PARTITION, USERS)):
        quix_apps.change(settings, user, f"c{number}", "A")
    app = shards.build(settings)
    positions: list[tuple[int, int]] = []
    members: list[tuple[str, str]] = []

    def done() -> bool:
        if _applied(app, PARTITION) < USERS:
            return False
        positions.append(quix.consumer_position(app, settings.topic(LOG), PARTITION))
        members.extend(_members(settings))
        return True

    quix_apps.run_until(app, done, "the last record")
    [(at, high)] = positions
    # The define, the changes, and ticks that may have come behind them.
    assert USERS + 1 <= at <= high
    assert members == [(f"{settings.group('shards')}-0", "STABLE")]


class TestOneRun:
    """What a run of the application leaves on the broker and on the disk."""

    def test_documents_are_in_our_database_in_the_groups_folder(self, after: Settings) -> None:
        folder = after.data_dir / "shards-0" / after.group("shards") / str(PARTITION)
        assert folder == maintenance.state_dir(after) / str(PARTITION)
        database = open_database(folder)
        try:
            shard = orjson.loads(database[SHARD_KEY] or b"")
            assert shard["next_ordinal"] == USERS
            rows = [row for row in _changelog(after) if row.partition == PARTITION]
            assert int(database[CHANGELOG_OFFSET_KEY] or b"") == rows[-1].offset
        finally:
            database.close()

    def test_state_has_one_changelog_whose_name_does_not_depend_on_topics(
        self, after: Settings
    ) -> None:
        admin = AdminClient(after.client_config())
        there = [
            name for name in admin.list_topics(timeout=30).topics if after.kafka.prefix in name
        ]
        assert sorted(there) == sorted(topic.on_cluster(after) for topic in topics.load())
        assert changelog_topic(after) == f"changelog__{after.group('shards')}--shards--default"

    def test_changelog_rows_have_the_processed_offsets(self, after: Settings) -> None:
        rows = [row for row in _changelog(after) if row.partition == PARTITION]
        last = rows[-1].headers
        assert last["__column_family__"] == b"default"
        applied = [orjson.loads(row.value or b"")["offset"] for row in rows if row.key == SHARD_KEY]
        processed = orjson.loads(last["__processed_tp_offsets__"])
        assert processed == {after.topic(LOG): applied[-1]}

    def test_outputs_go_to_their_explicit_partition(self, after: Settings) -> None:
        markers = {
            row.partition: row.key
            for row in read(after, "segments.users")
            if (row.key or b"").startswith(b"!progress/")
        }
        assert markers == {p: b"!progress/%d" % p for p in range(after.partitions)}

    def test_offsets_and_state_are_committed_atomically(self, after: Settings) -> None:
        offsets = quix_apps.committed(after)
        for digest in maintenance.digests(after):
            assert offsets[digest.partition] == digest.offset + 1
            assert digest.stored == digest.replayed


def _members(settings: Settings) -> list[tuple[str, str]]:
    """(group.instance.id, state of the group) of every member."""
    admin = AdminClient(settings.client_config())
    group = settings.group("shards")
    described = admin.describe_consumer_groups([group])[group].result(timeout=30)
    return [(member.group_instance_id, described.state.name) for member in described.members]


def test_each_checkpoint_has_its_own_store_transaction(
    deployment: Settings,
) -> None:
    seen: list[Any] = []
    app, access = _probe(deployment, seen)
    partition = 1
    send(deployment, LOG, [b"1", b"2"], partition=partition)
    later: list[bool] = []

    def done() -> bool:
        if len(seen) == 2 and not later:
            later.append(True)
            send(deployment, LOG, [b"3"], partition=partition)
        return len(seen) == 3

    quix_apps.run_until(app, done, "three records")
    first, second, third = seen
    assert first[1].store_partition is third[1].store_partition
    assert isinstance(first[1], ShardTransaction)
    assert first[0] is not third[0], "the third record came long after the first checkpoint"
    assert first[1] is not third[1]
    assert (first[1] is second[1]) == (first[0] is second[0])
    assert first[1].status is PartitionTransactionStatus.COMPLETE
    assert access.assigned() == [], "a closed application owns nothing"


def test_a_revoked_partition_is_released(deployment: Settings) -> None:
    app = quix.application(deployment, "shards", exactly_once=True)
    bound = shards.Shards(deployment, app, idempotent_producer(deployment))

    def done() -> bool:
        return len(bound._opened) == deployment.partitions

    quix_apps.run_until(app, done, "every shard")
    assert all(stored.closed for stored in bound._opened.values())
    bound._report([])
    assert bound._opened == {}


def _probe(settings: Settings, seen: list[Any]) -> tuple[Any, quix_store.StoreAccess]:
    """The shards' store without their machine: `seen` gets (checkpoint, transaction) a record."""
    app = quix.application(settings, "shards", exactly_once=True)
    context = app._processing_context

    def handle(record: Record) -> None:
        stored = access.partition(record.partition)
        assert stored.shard.jobs == 0
        stored.put(b"k%d" % record.offset, {"offset": record.offset})
        transactions = context.checkpoint._store_transactions
        assert list(transactions) == [("shards", record.partition, "default")]
        [transaction] = transactions.values()
        assert isinstance(transaction, ShardTransaction)
        assert transaction.store_partition is stored
        seen.append((context.checkpoint, transaction))

    def make_store(name: str, stream_id: str, base_dir: Path, changelogs: Any) -> ShardStore:
        return ShardStore(
            name,
            stream_id,
            base_dir,
            changelogs,
            configure=lambda partition: shards.shard_config(settings, partition),
            users_topic=settings.topic("segments.users"),
            produce=quix.transactional_output(app),
        )

    access = quix_store.stateful(app, settings, LOG, make_store, handle)
    return app, access


def test_outputs_without_a_record_are_committed_with_the_next_change(
    deployment: Settings,
) -> None:
    """Nothing that changed state waits: after a silence its checkpoint has expired already."""
    app, access = _probe(deployment, [])
    produce = quix.transactional_output(app)
    idle: list[Any] = []
    changed: list[Any] = []

    def done() -> bool:
        assigned = dict(access.assigned())
        if not assigned:
            return False
        checkpoint = app._processing_context.checkpoint
        if len(idle) < 10:  # turns of 20 ms, and the interval is 50
            produce(deployment.topic("segments.dlq"), b"%d" % len(idle), "k", partition=3)
            idle.append(checkpoint)
        elif not changed:
            assert all(each is checkpoint for each in idle)
            assert checkpoint.expired()
            assert read(deployment, "segments.dlq") == []
            stored = access.partition(1)
            assert stored.shard.jobs == 0
            stored.put(b"k", {"changed": "outside any record"})
            changed.append(checkpoint)
        return bool(changed) and checkpoint is not changed[0]

    quix_apps.run_until(app, done, "the checkpoint after the change")
    committed = read(deployment, "segments.dlq")
    assert [(r.partition, r.value) for r in committed] == [(3, b"%d" % n) for n in range(10)]


def test_outputs_in_an_unchanged_checkpoint_are_aborted_at_shutdown(
    deployment: Settings,
) -> None:
    app, access = _probe(deployment, [])
    produce = quix.transactional_output(app)

    def done() -> bool:
        if not access.assigned():
            return False
        produce(deployment.topic("segments.dlq"), b"lost", "k", partition=3)
        return True

    quix_apps.run_until(app, done, "an idle log")
    assert read(deployment, "segments.dlq") == []


def test_the_transactional_id_is_the_groups_and_the_instances(deployment: Settings) -> None:
    app = shards.build(deployment)
    fenced: list[bool] = []

    def fence() -> bool:
        if _applied(app, 0) >= 0 and not fenced:
            other = Producer(
                deployment.client_config()
                | {"transactional.id": f"{deployment.group('shards')}-{deployment.instance}"}
            )
            other.init_transactions(30)
            fenced.append(True)
        return False

    with pytest.raises(KafkaException, match=r"(?i)fenced"):
        quix_apps.run_until(app, fence, "nothing")


def test_a_recreated_topic_has_another_id(deployment: Settings) -> None:
    first = topic_ids(deployment, ["users.events", LOG])
    assert set(first) == {"users.events", LOG}
    assert all(len(bytes.fromhex(topic_id)) == 16 for topic_id in first.values())

    admin = AdminClient(deployment.client_config())
    name = deployment.topic("users.events")
    admin.delete_topics([name])[name].result(timeout=30)
    deployments.wait_until(
        lambda: name not in admin.list_topics(timeout=30).topics, what="the topic's end"
    )
    topics.apply(deployment)

    second = topic_ids(deployment, ["users.events", LOG])
    assert second[LOG] == first[LOG]
    assert second["users.events"] != first["users.events"]


def test_a_repeated_offset_ends_the_process(deployment: Settings) -> None:
    """Records that shards write to each other carry no source: twice would be twice applied."""
    quix_apps.define(deployment, "A")
    app = shards.build(deployment)
    sought: list[bool] = []

    def seek_back() -> bool:
        if _applied(app, 0) >= 0 and not sought:
            app._consumer.seek(TopicPartition(deployment.topic(LOG), 0, 0))
            sought.append(True)
        return False

    with pytest.raises(RuntimeError, match=r"repeats offset 0"):
        quix_apps.run_until(app, seek_back, "nothing")
