"""Digest, reset and rebuild of the shards' state, with a real broker."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from segments.settings import Settings
from segments.streams import maintenance, startup_checks
from tests.support import deployments
from tests.support.records import read, send


@pytest.fixture
def filled(deployment: Settings) -> Settings:
    """A deployment whose shards hold 200 users, stopped."""
    router = deployments.start(deployment, "router")
    shards = deployments.start(deployment, "shards")
    commands: list[dict[str, Any]] = [{"type": "create_segment", "id": "create", "segment": "A"}]
    commands += [
        {"type": "change_memberships", "id": f"c{n}", "user_id": str(uuid.uuid4()), "add": ["A"]}
        for n in range(200)
    ]
    send(deployment, "segments.commands", [orjson.dumps(command) for command in commands])
    deployments.wait_until(
        lambda: len({r.key for r in read(deployment, "segments.results")}) == 201,
        what="all results",
    )
    assert router.stop() == 0
    assert shards.stop() == 0
    return deployment


def test_the_stored_state_equals_a_replay_of_the_log(filled: Settings) -> None:
    found = list(maintenance.digests(filled))
    assert [each.partition for each in found] == list(range(filled.partitions))
    assert all(each.stored == each.replayed for each in found)
    assert len({each.stored for each in found}) == filled.partitions


def test_missing_offsets_prevent_the_start_until_rebuilt(filled: Settings) -> None:
    before = list(maintenance.digests(filled))
    _delete_committed_offsets(filled)
    with pytest.raises(startup_checks.StartRefusedError, match="segments state rebuild"):
        startup_checks.check_shards(filled)

    offsets = maintenance.rebuild(filled)

    assert offsets == {each.partition: each.offset + 1 for each in before}
    startup_checks.check_shards(filled)
    shards = deployments.start(filled, "shards")
    deployments.wait_until(
        lambda: len(list(maintenance.digests(filled))) == filled.partitions,
        what="the restored state",
    )
    assert shards.stop() == 0
    after = list(maintenance.digests(filled))
    assert all(each.stored == each.replayed for each in after)
    assert len(read(filled, "segments.history")) == 200


def _delete_committed_offsets(settings: Settings) -> None:
    admin = AdminClient(settings.client_config())
    group = settings.group("shards")

    def deleted() -> bool:
        # A static member holds its place until the session timeout has passed.
        future = admin.delete_consumer_groups([group])[group]
        return future.exception(timeout=30) is None

    deployments.wait_until(deleted, what="the group without members")
    committed = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    partitions: list[TopicPartition] = committed[group].result(timeout=30).topic_partitions
    assert partitions == []
