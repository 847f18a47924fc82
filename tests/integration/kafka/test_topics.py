"""topics.yaml applied to a real broker."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from segments.kafka import topics
from segments.settings import Settings
from tests.support.deployments import wait_until


def _admin(settings: Settings) -> AdminClient:
    return AdminClient(settings.client_config())


def _set_config(settings: Settings, name: str, key: str, value: str) -> None:
    resource = ConfigResource(
        ResourceType.TOPIC,
        name,
        incremental_configs=[
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET),
        ],
    )
    admin = _admin(settings)
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(timeout=30)


def test_every_topic_exists_with_its_partitions(deployment: Settings) -> None:
    found = _admin(deployment).list_topics(timeout=30).topics
    for topic in topics.load():
        assert len(found[topic.on_cluster(deployment)].partitions) == deployment.partitions
    topics.check(deployment)


def test_names_carry_the_prefix_once() -> None:
    settings = Settings(kafka={"prefix": "blue."})
    names = {topic.name: topic.on_cluster(settings) for topic in topics.load()}
    assert names["segments.users"] == "blue.segments.users"
    changelog = next(name for name in names.values() if "changelog" in name)
    assert changelog == "changelog__blue.segments-shards--shards--default"


def test_applying_again_creates_nothing(deployment: Settings) -> None:
    assert topics.apply(deployment) == []


def test_concurrent_applies_create_each_topic_once(deployment: Settings) -> None:
    _delete(deployment, [topic.on_cluster(deployment) for topic in topics.load()])
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(topics.apply, deployment) for _ in range(2)]
        created = [name for run in runs for name in run.result(timeout=60)]
    assert sorted(created) == sorted(topic.on_cluster(deployment) for topic in topics.load())


def _delete(settings: Settings, names: list[str]) -> None:
    admin = _admin(settings)
    for future in admin.delete_topics(names).values():
        future.result(timeout=30)
    wait_until(lambda: not set(names) & set(admin.list_topics(timeout=30).topics), what="deletion")


def test_a_missing_topic_is_recreated(deployment: Settings) -> None:
    name = deployment.topic("segments.dlq")
    _delete(deployment, [name])
    with pytest.raises(topics.TopicsError, match=f"{name}: missing"):
        topics.check(deployment)
    assert topics.apply(deployment) == [name]


def test_a_different_partition_count_is_rejected(deployment: Settings) -> None:
    wider = deployment.model_copy(update={"partitions": deployment.partitions + 2})
    with pytest.raises(topics.TopicsError) as caught:
        topics.apply(wider)
    assert len(caught.value.faults) == len(topics.load())
    fault = f"{deployment.topic('segments.shards')}: 4 partitions found, 6 expected"
    assert f"{fault} (setting partitions)" in caught.value.faults


@pytest.mark.parametrize(
    ("topic", "key", "value", "expected"),
    [
        ("segments.shards", "message.timestamp.type", "CreateTime", "LogAppendTime"),
        ("segments.users", "cleanup.policy", "delete", "compact"),
        ("segments.history", "retention.ms", "1000000", "2592000000"),
    ],
)
def test_different_config_is_rejected_by_name(
    deployment: Settings, topic: str, key: str, value: str, expected: str
) -> None:
    name = deployment.topic(topic)
    _set_config(deployment, name, key, value)
    fault = f"{name}: {key}={value} found, {expected} expected"
    for act in (topics.apply, topics.check):
        refused = partial(_has_faults, act, deployment, [fault])
        wait_until(refused, what="the refusal")


def _has_faults(act: Callable[[Settings], object], settings: Settings, faults: list[str]) -> bool:
    return _faults(act, settings) == faults


def _faults(act: Callable[[Settings], object], settings: Settings) -> list[str]:
    try:
        act(settings)
    except topics.TopicsError as error:
        return error.faults
    return []


def test_topics_yaml_names_known_applications() -> None:
    known = {"router", "users", "shards", "history", "http"}
    known |= {"other services", "user service", "operators"}
    for topic in topics.load():
        assert set(topic.writers) | set(topic.readers) <= known
