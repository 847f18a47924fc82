"""The router as a process, on a real broker."""

from __future__ import annotations

import uuid
from collections import defaultdict

import orjson
import pytest

from segments.contracts.log import parse_source
from segments.contracts.partitioning import partition_of
from segments.settings import Settings
from tests.support import deployments, records


def change(user_id: str, command_id: str) -> bytes:
    return orjson.dumps(
        {"type": "change_memberships", "id": command_id, "user_id": user_id, "add": ["a"]}
    )


@pytest.mark.parametrize("partitioner", ["murmur2_random", "consistent_random", "random"])
def test_records_of_every_partitioner_are_re_keyed(deployment: Settings, partitioner: str) -> None:
    users = [str(uuid.uuid4()) for _ in range(50)]
    for user in users:
        records.send(
            deployment,
            "segments.commands",
            [change(user, f"c-{user}")],
            key=None if partitioner == "random" else user.encode(),
            partitioner=partitioner,
        )
    deployments.start(deployment, "router")

    def arrived() -> list[records.Read]:
        found = records.read(deployment, "segments.shards")
        assert len(found) == len(users)
        return found

    found = deployments.wait_until(arrived, what="a log record for each command")
    assert {record.key.decode() for record in found if record.key} == set(users)
    for record in found:
        assert record.key is not None
        assert record.partition == partition_of(record.key.decode(), deployment.partitions)
        assert record.headers["type"] == b"change"


def test_invalid_and_valid_records_side_by_side(deployment: Settings) -> None:
    user = str(uuid.uuid4())
    values = [
        b"\xff\xfe not UTF-8",
        change(user, "first"),
        orjson.dumps({"type": "change_memberships", "id": "bad", "user_id": "nobody"}),
        b"[" * 990_000,
        None,
        orjson.dumps({"type": "create_segment", "id": "made", "segment": "a"}),
        change(user.upper(), "second"),
    ]
    records.send(
        deployment,
        "segments.commands",
        values,
        key=b"k",
        headers=[("trace", b"\x00\xff")],
        partition=1,
    )
    records.send(deployment, "users.events", [orjson.dumps({"user_id": user}), b"{}"], partition=0)
    router = deployments.start(deployment, "router")

    def all_there() -> bool:
        return (
            len(records.read(deployment, "segments.shards")) == 3
            and len(records.read(deployment, "segments.dlq")) == 5
            and len(records.read(deployment, "users.refreshes")) == 1
            and len(records.read(deployment, "segments.results")) == 1
        )

    deployments.wait_until(all_there, what="every record's outcome")
    dead = {
        (r.headers["__connect.errors.topic"], r.headers["__connect.errors.offset"]): r
        for r in records.read(deployment, "segments.dlq")
    }
    commands = deployment.topic("segments.commands").encode()
    for offset in (0, 2, 3, 4):
        record = dead[commands, str(offset).encode()]
        assert record.value == values[offset]
        assert record.key == b"k"
        assert record.headers["trace"] == b"\x00\xff"
        assert record.headers["__connect.errors.partition"] == b"1"
    result = records.read(deployment, "segments.results")[0]
    assert result.key == b"bad"
    assert result.json["error"]["code"] == "invalid"
    assert "user_id" in result.json["error"]["detail"]
    changes = [r for r in records.read(deployment, "segments.shards") if r.key == user.encode()]
    assert [r.json["id"] for r in changes] == ["first", "second"]
    assert router.stop() == 0


def test_repeated_kills_leave_no_gaps_or_reordering(deployment: Settings) -> None:
    users = [str(uuid.UUID(int=n)) for n in range(40)]
    rounds, per_round = 6, 3_000
    for number in range(rounds):
        values = [change(users[n % len(users)], f"{number}-{n}") for n in range(per_round)]
        records.send(deployment, "segments.commands", values, partition=number % 2)
        before = len(records.read(deployment, "segments.shards"))
        router = deployments.start(deployment, "router", label=f"router-{number}")
        # In the middle of its work, between what it produced and what it committed.
        deployments.wait_until(
            lambda before=before: len(records.read(deployment, "segments.shards")) > before,  # type: ignore[misc] # a default
            what="first output",
        )
        router.kill()
    deployments.start(deployment, "router", label="router-last")

    def complete() -> list[records.Read]:
        found = records.read(deployment, "segments.shards")
        assert len({r.headers["src"] for r in found}) == rounds * per_round
        return found

    found = deployments.wait_until(complete, what="a log record for each command")
    contents: dict[bytes, set[bytes | None]] = defaultdict(set)
    applied: dict[tuple[int, str], list[int]] = defaultdict(list)
    for record in found:
        contents[record.headers["src"]].add(record.value)
        origin, offset = parse_source(record.headers["src"].decode())
        highest = applied[record.partition, origin]
        # As a shard drops repetitions: what is not above the highest is left out.
        if not highest or offset > highest[-1]:
            highest.append(offset)
    assert all(len(values) == 1 for values in contents.values())
    # Nothing is lost by that rule, so no offset came after a higher one for the first time.
    assert sum(map(len, applied.values())) == rounds * per_round
