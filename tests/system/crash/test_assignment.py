"""A rule for 10 % of 100,000 users while commands are sent and shards are killed."""

from __future__ import annotations

import random
import uuid
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
import xxhash
from confluent_kafka import Producer

from segments.contracts.log import HEADER_TYPE, USER, user_record
from segments.contracts.partitioning import partition_of
from segments.settings import Settings
from tests.support import deployments
from tests.support.records import read, send

USERS = 100_000
KILLS = 4


def user_ids(count: int) -> list[str]:
    numbers = random.Random(20)
    return [str(uuid.UUID(int=numbers.getrandbits(128), version=4)) for _ in range(count)]


def rank(user_id: str) -> tuple[int, bytes]:
    seed = xxhash.xxh3_64_intdigest(b"tenth/1")
    raw = uuid.UUID(user_id).bytes
    return xxhash.xxh3_64_intdigest(raw, seed), raw


def fill(settings: Settings, users: list[str]) -> None:
    """Append users to the shard log, as the users application does."""
    producer = Producer(settings.client_config() | {"linger.ms": 20, "compression.type": "lz4"})
    topic = settings.topic("segments.shards")
    for user_id in users:
        value = orjson.dumps(user_record(user_id, "active", None, ("t", 0, 0)))
        partition = partition_of(user_id, settings.partitions)
        while True:
            try:
                producer.produce(
                    topic, value, user_id, partition, headers=[(HEADER_TYPE, USER.encode())]
                )
            except BufferError:
                producer.poll(0.1)
            else:
                break
    assert producer.flush(60) == 0


def command(kind: str, command_id: str, **fields: Any) -> bytes:
    return orjson.dumps({"type": kind, "id": command_id, **fields})


def results(settings: Settings) -> dict[str, str]:
    return {r.json["command_id"]: r.json["status"] for r in read(settings, "segments.results")}


def definition(settings: Settings, segment: str) -> dict[str, Any]:
    found = [r.json for r in read(settings, "segments.definitions") if r.json["segment"] == segment]
    return max(found, key=lambda each: each["version"], default={})


def _has_more_history(settings: Settings, rows: int) -> bool:
    return len(read(settings, "segments.history")) > rows


def kill_repeatedly(settings: Settings, shards: deployments.Process, changes: list[bytes]) -> int:
    """Kill the shards repeatedly, each time after further history rows, and send part of `changes`.

    Returns how many kills hit the unfinished assignment.
    """
    deployments.wait_until(
        lambda: (definition(settings, "tenth").get("auto") or {}).get("target"),
        timeout_s=120,
        what="the decision",
    )
    while_assigning = 0
    for number in range(KILLS):
        shards.kill()
        while_assigning += definition(settings, "tenth")["state"] == "assigning"
        before = len(read(settings, "segments.history"))
        send(settings, "segments.commands", changes[number::KILLS], partition=number % 2)
        shards = deployments.start(settings, "shards", label=f"shards-after-{number}")
        deployments.wait_until(
            partial(_has_more_history, settings, before),
            timeout_s=90,
            what="further history rows",
        )
    return while_assigning


@pytest.fixture
def slow_jobs(broker: str, tmp_path: Path) -> Iterator[Settings]:
    """A deployment whose ticks assign few users each, so that kills hit an assignment."""
    limits = {"job_slice": 8}
    with deployments.deployment(
        broker, tmp_path / "data", limits=limits, job_rest_ratio=0
    ) as settings:
        yield settings


@pytest.mark.timeout(420)
def test_an_assignment_is_exact_when_shards_are_killed(slow_jobs: Settings) -> None:
    deployment = slow_jobs
    users = user_ids(USERS)
    fill(deployment, users)
    deployments.start(deployment, "router")
    send(deployment, "segments.commands", [command("create_segment", "c1", segment="hand")])
    auto = {"percent": 10}
    send(
        deployment,
        "segments.commands",
        [command("create_segment", "c2", segment="tenth", auto=auto)],
    )
    # Commands remove the segment from half of its members during the assignment.
    expected = sorted(users, key=rank)[: USERS // 10]
    losing = expected[::2][:2_000]
    changes = [
        command("change_memberships", f"m{n}", user_id=user, add=["hand"], remove=["tenth"])
        for n, user in enumerate(losing)
    ]

    def over() -> bool:
        return definition(deployment, "tenth").get("state") == "active"

    shards = deployments.start(deployment, "shards")
    assert kill_repeatedly(deployment, shards, changes) > 0
    deployments.wait_until(over, timeout_s=120, what="the end of the assignment", poll_s=0.5)
    deployments.wait_until(
        lambda: len(results(deployment)) == 2 + len(changes), timeout_s=120, what="all results"
    )
    rows = [r.json for r in read(deployment, "segments.history")]
    assigned = Counter(r["user_id"] for r in rows if r["cause"] == "auto")
    rule = definition(deployment, "tenth")["auto"]
    # A removal that is applied before the decision prevents the assignment.
    removed_before = set(losing) - set(assigned)
    assert set(assigned.values()) == {1}
    assert set(assigned) | removed_before == set(expected)
    assert rule["target"] == USERS // 10
    assert rule["assigned"] + rule["skipped"] == USERS // 10
    removed = Counter(r["user_id"] for r in rows if r["operation"] == "remove")
    assert removed == {user: 1 for user in losing if user in assigned}
    documents = {r.key.decode(): r.json for r in read(deployment, "segments.users") if r.key}
    members = {user for user, doc in documents.items() if "tenth" in doc.get("segments", {})}
    assert members == set(assigned) - set(removed)
