"""Unfinished transactions of killed processes, and how the next process recovers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
from confluent_kafka import Producer

from segments.settings import Settings
from segments.streams import maintenance, startup_checks
from tests.support import deployments, records

LONG_MS = 60_000
"""Checkpoint interval that is long enough to kill a process before its first checkpoint."""


def user(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def send_changes(settings: Settings, first: int, count: int) -> None:
    """Commands that add users to segment `a`, which number 0 creates."""
    commands: list[dict[str, Any]] = [
        {"type": "change_memberships", "id": f"c{n}", "user_id": user(n), "add": ["a"]}
        for n in range(first, first + count)
    ]
    if first == 0:
        commands.insert(0, {"type": "create_segment", "id": "create", "segment": "a"})
    records.send(settings, "segments.commands", [orjson.dumps(command) for command in commands])


def results(settings: Settings) -> dict[str, list[Any]]:
    """All results of each command."""
    found: dict[str, list[Any]] = {}
    for record in records.read(settings, "segments.results"):
        found.setdefault(record.json["command_id"], []).append(record.json)
    return found


def wait_for_results(settings: Settings, changes: int) -> None:
    expected = {"create", *(f"c{n}" for n in range(changes))}
    deployments.wait_until(lambda: results(settings).keys() == expected, what="a result of each")


def additions(settings: Settings, *, committed_only: bool = True) -> Counter[str]:
    """Number of history rows of each command."""
    rows = records.read(settings, "segments.history", committed_only=committed_only)
    return Counter(row.json["command_id"] for row in rows)


def once_each(changes: int) -> Counter[str]:
    return Counter(f"c{n}" for n in range(changes))


def with_long_checkpoints(settings: Settings) -> Settings:
    return settings.model_copy(update={"commit_interval_ms": LONG_MS})


def foreign_transaction(settings: Settings, name: str) -> Producer:
    """An open transaction with a row in the changelog of every shard."""
    producer = Producer(settings.client_config() | {"transactional.id": name})
    producer.init_transactions(30)
    producer.begin_transaction()
    for partition in range(settings.partitions):
        producer.produce(startup_checks.changelog_topic(settings), b"{}", b"junk", partition)
    assert producer.flush(30) == 0
    return producer


def test_router_killed_between_produce_and_commit(deployment: Settings) -> None:
    router = deployments.start(with_long_checkpoints(deployment), "router", label="router-killed")
    deployments.start(deployment, "shards")
    send_changes(deployment, 0, 50)
    wait_for_results(deployment, 50)
    router.kill()
    before = len([r for r in records.read(deployment, "segments.shards") if "src" in r.headers])
    deployments.start(deployment, "router")
    send_changes(deployment, 50, 1)
    wait_for_results(deployment, 51)
    routed = [r for r in records.read(deployment, "segments.shards") if "src" in r.headers]
    assert len(routed) == 2 * before + 1, "the router had committed what it produced"
    assert all(len(found) == 1 for found in results(deployment).values())
    assert additions(deployment) == once_each(51)


def test_a_repeated_command_repeats_its_result(deployment: Settings) -> None:
    deployments.start(deployment, "router")
    shards = deployments.start(deployment, "shards")
    send_changes(deployment, 0, 20)
    wait_for_results(deployment, 20)
    shards.kill()
    send_changes(deployment, 0, 20)
    deployments.start(deployment, "shards", label="shards-again")

    def twice() -> bool:
        return all(len(found) == 2 for found in results(deployment).values())

    deployments.wait_until(twice, what="the results once more")
    assert all(found[0] == found[1] for found in results(deployment).values())
    assert additions(deployment) == once_each(20)


def test_another_process_takes_over_after_a_kill_inside_a_transaction(deployment: Settings) -> None:
    deployments.start(deployment, "router")
    shards = deployments.start(deployment, "shards")
    send_changes(deployment, 0, 50)
    wait_for_results(deployment, 50)
    assert shards.stop() == 0
    killed = deployments.start(with_long_checkpoints(deployment), "shards", label="shards-killed")
    send_changes(deployment, 50, 50)

    def inside() -> bool:
        return additions(deployment, committed_only=False) == once_each(100)

    deployments.wait_until(inside, what="rows that are not yet committed")
    killed.kill()
    assert additions(deployment) == once_each(50)
    other = deployment.model_copy(update={"instance": 1})
    deployments.start(other, "shards")
    wait_for_results(deployment, 100)
    assert additions(deployment) == once_each(100)
    assert additions(deployment, committed_only=False).total() == 150


def test_a_restart_succeeds_after_a_kill_in_the_first_transaction(deployment: Settings) -> None:
    # Such a kill leaves offsets but no record in the changelog, and no committed offset.
    foreign_transaction(deployment, f"{deployment.group('shards')}-0").abort_transaction(30)
    deployments.start(deployment, "router")
    deployments.start(deployment, "shards")
    send_changes(deployment, 0, 20)
    wait_for_results(deployment, 20)


def test_a_removed_state_is_restored(deployment: Settings) -> None:
    deployments.start(deployment, "router")
    shards = deployments.start(deployment, "shards")
    send_changes(deployment, 0, 50)
    wait_for_results(deployment, 50)
    assert shards.stop() == 0
    before = {found.partition: found for found in maintenance.digests(deployment)}
    assert maintenance.reset(deployment)
    shards = deployments.start(deployment, "shards", label="shards-again")
    send_changes(deployment, 0, 50)
    deployments.wait_until(
        lambda: all(len(found) == 2 for found in results(deployment).values()), what="repetitions"
    )
    assert shards.stop() == 0
    after = {found.partition: found for found in maintenance.digests(deployment)}
    assert after.keys() == before.keys()
    assert all(found.stored == found.replayed for found in after.values())
    assert additions(deployment) == once_each(50)


def test_an_incomplete_recovery_is_rejected(deployment: Settings) -> None:
    deployments.start(deployment, "router")
    shards = deployments.start(deployment, "shards")
    send_changes(deployment, 0, 20)
    wait_for_results(deployment, 20)
    # The open transaction of another process hides everything that is committed after it.
    hanging = foreign_transaction(deployment, "hanging")
    send_changes(deployment, 20, 20)
    wait_for_results(deployment, 40)
    shards.kill()
    assert maintenance.reset(deployment)
    refused = deployments.start(deployment, "shards", label="shards-refused")
    assert refused.wait(60) != 0
    assert "committed offset is" in refused.log()
    hanging.abort_transaction(30)
    deployments.start(deployment, "shards", label="shards-again")
    send_changes(deployment, 0, 60)
    wait_for_results(deployment, 60)
    deployments.wait_until(lambda: additions(deployment) == once_each(60), what="each change, once")


def test_the_same_instance_started_twice_is_fenced(deployment: Settings) -> None:
    deployments.start(deployment, "router")
    first = deployments.start(deployment, "shards")
    send_changes(deployment, 0, 20)
    wait_for_results(deployment, 20)
    elsewhere = deployment.model_copy(update={"data_dir": deployment.data_dir / "elsewhere"})
    try:
        second = deployments.start(elsewhere, "shards")
        send_changes(deployment, 20, 20)
        deployments.wait_until(lambda: first.exit_status is not None, what="the end of the first")
        assert first.exit_status != 0
        send_changes(deployment, 40, 20)
        wait_for_results(deployment, 60)
        assert second.stop() == 0
    finally:
        deployments.stop_all(elsewhere.data_dir)
    assert additions(deployment) == once_each(60)
    assert all(found.stored == found.replayed for found in maintenance.digests(elsewhere))
