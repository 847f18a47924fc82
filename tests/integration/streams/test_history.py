"""The history application as a process, on a real broker."""

from __future__ import annotations

import sqlite3
from uuid import UUID

import orjson
import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient

from segments.contracts.partitioning import partition_of
from segments.contracts.times import to_rfc3339
from segments.kafka import topics
from segments.settings import Settings
from segments.state.history.protocol import StoreProgress
from segments.state.history.sqlite import database_path
from segments.streams.history import HistoryRowError, decode
from tests.support import deployments, records

AT_MS = 1_795_500_000_000
USERS = [str(UUID(int=n)) for n in range(1, 30)]


def row(user_id: str, number: int) -> bytes:
    return orjson.dumps(
        {
            "user_id": user_id,
            "segment": f"s{number}",
            "generation": 1,
            "operation": "add",
            "at": to_rfc3339(AT_MS + number),
            "cause": "command",
            "command_id": f"c{number}",
            "actor": None,
            "expires_at": None,
        }
    )


def send_rows(settings: Settings, first: int, count: int) -> None:
    by_partition: dict[int, list[bytes | None]] = {}
    for number in range(first, first + count):
        user = USERS[number % len(USERS)]
        partition = partition_of(user, settings.partitions)
        by_partition.setdefault(partition, []).append(row(user, number))
    for partition, values in by_partition.items():
        records.send(settings, "segments.history", values, partition=partition)


def stored(settings: Settings) -> list[tuple[int, int, str]]:
    path = database_path(settings)
    if not path.exists():
        return []
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        return connection.execute(
            "SELECT partition, offset, segment FROM history ORDER BY partition, offset"
        ).fetchall()
    except sqlite3.OperationalError:
        return []  # the tables are being created
    finally:
        connection.close()


def sent(settings: Settings) -> list[tuple[int, int, str]]:
    return [
        (r.partition, r.offset, r.json["segment"])
        for r in records.read(settings, "segments.history")
        if r.key is None
    ]


def progress(settings: Settings) -> dict[int, StoreProgress]:
    connection = sqlite3.connect(database_path(settings))
    try:
        found = connection.execute("SELECT * FROM progress").fetchall()
    finally:
        connection.close()
    return {partition: StoreProgress(*counts) for partition, *counts in found}


def wait_stored(settings: Settings) -> None:
    deployments.wait_until(lambda: stored(settings) == sent(settings), what="every row, once")


def test_killed_and_restarted_from_the_beginning_of_the_topic(deployment: Settings) -> None:
    count = 3_000
    for number in range(3):
        send_rows(deployment, number * count, count)
        before = len(stored(deployment))
        history = deployments.start(deployment, "history", label=f"history-{number}")
        deployments.wait_until(lambda before=before: len(stored(deployment)) > before, what="rows")  # type: ignore[misc] # a default
        history.kill()
    history = deployments.start(deployment, "history", label="history-3")
    wait_stored(deployment)
    assert history.stop() == 0
    rewind(deployment)
    send_rows(deployment, 3 * count, 10)
    history = deployments.start(deployment, "history", label="history-4")
    wait_stored(deployment)
    assert history.stop() == 0
    total = sum(p.rows for p in progress(deployment).values())
    assert total == len(stored(deployment)) == 3 * count + 10


def rewind(settings: Settings) -> None:
    """Set the committed offsets back to 0, as after an operator's mistake."""
    topic = settings.topic("segments.history")
    offsets = [TopicPartition(topic, number, 0) for number in range(settings.partitions)]
    group = ConsumerGroupTopicPartitions(settings.group("history"), offsets)
    admin = AdminClient(settings.client_config())

    def altered() -> bool:
        # Refused as long as the group's static member has not timed out.
        future = admin.alter_consumer_group_offsets([group])[group.group_id]
        result = future.result(timeout=30)
        return all(partition.error is None for partition in result.topic_partitions)

    def try_to_alter() -> bool:
        try:
            return altered()
        except Exception as error:
            raise AssertionError(str(error)) from error

    deployments.wait_until(try_to_alter, what="the group to be empty", poll_s=0.5)


def test_control_records_are_skipped(deployment: Settings) -> None:
    send_rows(deployment, 0, 5)
    for partition in range(deployment.partitions):
        records.send(
            deployment, "segments.history", [b"anything"], key=b"!marker", partition=partition
        )
    deployments.start(deployment, "history")
    wait_stored(deployment)
    ends = dict.fromkeys(range(deployment.partitions), 1)
    for partition, *_ in sent(deployment):
        ends[partition] += 1
    deployments.wait_until(
        lambda: {p: at.next_offset for p, at in progress(deployment).items()} == ends,
        what="the progress past the markers",
    )


def test_a_malformed_row_ends_the_process(deployment: Settings) -> None:
    records.send(deployment, "segments.history", [b'{"segment":"a"}'], partition=2)
    history = deployments.start(deployment, "history")
    assert history.wait() != 0
    assert "segments.history:2:0 is not a history row" in history.log()
    assert stored(deployment) == []


def test_a_recreated_topic_is_rejected(deployment: Settings) -> None:
    send_rows(deployment, 0, 20)
    history = deployments.start(deployment, "history", label="history-before")
    wait_stored(deployment)
    assert history.stop() == 0
    name = deployment.topic("segments.history")
    admin = AdminClient(deployment.client_config())
    admin.delete_topics([name])[name].result(timeout=30)
    deployments.wait_until(
        lambda: name not in admin.list_topics(timeout=30).topics, what="deletion"
    )
    topics.apply(deployment)
    history = deployments.start(deployment, "history", label="history-after")
    assert history.wait() != 0
    assert "deleted and created again" in history.log()


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"{",
        b"[]",
        row("no-user", 1),
        row(USERS[0], 1).replace(b'"add"', b'"grow"'),
        row(USERS[0], 1).replace(b"2026-", b"26-"),
        row(USERS[0], 1).replace(b'"generation":1,', b""),
        row(USERS[0], 1).replace(b'"expires_at":null', b'"expires_at":"soon"'),
    ],
)
def test_the_error_of_a_malformed_row_names_its_position(value: bytes | None) -> None:
    with pytest.raises(HistoryRowError, match=r"segments\.history:3:7 "):
        decode(3, 7, b"key", value)
