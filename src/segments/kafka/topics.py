"""The topics of a deployment: reads topics.yaml, creates the topics, and checks them."""

from __future__ import annotations

import re
import time
from functools import cache
from pathlib import Path
from typing import Literal

import yaml
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, OffsetSpec, ResourceType
from pydantic import BaseModel, ConfigDict, Field

from segments.kafka.access import admin_client
from segments.kafka.clients import REQUEST_TIMEOUT_S
from segments.settings import Settings

_VISIBLE_TIMEOUT_S = 30.0
_POLL_S = 0.05
_FILE = Path(__file__).parents[1] / "topics.yaml"
_GROUP = re.compile(r"\{group:([a-z]+)\}")


class Topic(BaseModel):
    """A topic as topics.yaml describes it. `partitions` "log" = the setting `partitions`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    purpose: str
    partitions: Literal["log"] | int
    key: str
    value: str = Field(alias="schema")
    config: dict[str, str]
    writers: list[str]
    readers: list[str]

    def on_cluster(self, settings: Settings) -> str:
        """The name on the cluster. A name that contains a group has the prefix in the group."""
        if _GROUP.search(self.name):
            return _GROUP.sub(lambda match: settings.group(match[1]), self.name)
        return settings.topic(self.name)

    def partition_count(self, settings: Settings) -> int:
        """The number of partitions in this deployment."""
        return settings.partitions if self.partitions == "log" else self.partitions


class TopicsError(RuntimeError):
    """Topics are missing or differ. One line per fault: topic, found and expected."""

    def __init__(self, faults: list[str], remedy: str) -> None:
        self.faults = faults
        super().__init__("\n".join([*faults, remedy]))


@cache
def load() -> tuple[Topic, ...]:
    """Every topic of topics.yaml."""
    document = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return tuple(Topic.model_validate(entry) for entry in document["topics"])


def apply(settings: Settings) -> list[str]:
    """Create missing topics and return their names. TopicsError when existing ones differ.

    KafkaError when the brokers are unreachable or refuse the credentials.
    """
    admin = admin_client(settings)
    present = _partitions(admin)
    missing = [topic for topic in load() if topic.on_cluster(settings) not in present]
    _raise_if(_differences(admin, settings, present))
    created = _create(admin, settings, missing)
    # Another process may apply at the same time: the topics that it created are checked too.
    _raise_if(_differences(admin, settings, _wait_until_visible(admin, settings)))
    return created


def check(settings: Settings) -> None:
    """Raise TopicsError when a topic is missing or differs, KafkaError as for `apply`.

    Nothing is changed.
    """
    admin = admin_client(settings)
    present = _partitions(admin)
    _raise_if(
        [
            f"{name}: missing"
            for topic in load()
            if (name := topic.on_cluster(settings)) not in present
        ],
        remedy="Create them with: segments topics apply",
    )
    _raise_if(_differences(admin, settings, present))


def _raise_if(
    faults: list[str],
    remedy: str = "Nothing was changed: alter the topic or the setting so that they match.",
) -> None:
    if faults:
        raise TopicsError(faults, remedy)


def _partitions(admin: AdminClient) -> dict[str, int]:
    metadata = admin.list_topics(timeout=REQUEST_TIMEOUT_S)
    return {name: len(topic.partitions) for name, topic in metadata.topics.items()}


def _differences(admin: AdminClient, settings: Settings, present: dict[str, int]) -> list[str]:
    topics = {name: topic for topic in load() if (name := topic.on_cluster(settings)) in present}
    faults = [
        f"{name}: {present[name]} partitions found, {expected} expected (setting partitions)"
        for name, topic in topics.items()
        if present[name] != (expected := topic.partition_count(settings))
    ]
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in topics]
    if not resources:
        return faults
    answers = admin.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
    for resource, future in answers.items():
        found = future.result(timeout=REQUEST_TIMEOUT_S)
        for key, expected_value in topics[resource.name].config.items():
            value = found[key].value if key in found else None
            if value != expected_value:
                faults.append(f"{resource.name}: {key}={value} found, {expected_value} expected")
    return faults


def _create(admin: AdminClient, settings: Settings, missing: list[Topic]) -> list[str]:
    if not missing:
        return []
    new_topics = [
        NewTopic(
            topic.on_cluster(settings),
            num_partitions=topic.partition_count(settings),
            replication_factor=settings.kafka.replication_factor,
            config=topic.config,
        )
        for topic in missing
    ]
    created = []
    for name, future in admin.create_topics(new_topics, request_timeout=REQUEST_TIMEOUT_S).items():
        try:
            future.result(timeout=REQUEST_TIMEOUT_S)
            created.append(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
    return created


def _wait_until_visible(admin: AdminClient, settings: Settings) -> dict[str, int]:
    """Partition counts by topic. Creation returns before each partition has an active leader."""
    expected = {topic.on_cluster(settings) for topic in load()}
    deadline = time.monotonic() + _VISIBLE_TIMEOUT_S
    while True:
        topics = admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        partitions = [
            TopicPartition(name, partition)
            for name in expected
            if name in topics
            for partition in topics[name].partitions
        ]
        absent = [name for name in expected if name not in topics or not topics[name].partitions]
        leaderless = absent or _leaderless(admin, partitions)
        if not leaderless:
            return {name: len(topics[name].partitions) for name in expected}
        if time.monotonic() > deadline:
            raise TimeoutError(f"no leader after {_VISIBLE_TIMEOUT_S:.0f} s: {sorted(leaderless)}")
        time.sleep(_POLL_S)


def _leaderless(admin: AdminClient, partitions: list[TopicPartition]) -> list[str]:
    """Names of topics with a partition whose end offset is not available."""
    request = {partition: OffsetSpec.latest() for partition in partitions}
    futures = admin.list_offsets(request, request_timeout=REQUEST_TIMEOUT_S)
    return sorted(
        {tp.topic for tp, future in futures.items() if future.exception(REQUEST_TIMEOUT_S)}
    )
