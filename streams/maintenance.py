"""Operator commands on the shards' state: digest, reset, rebuild."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from segments.contracts.topics import SHARDS_TOPIC
from segments.kafka.clients import REQUEST_TIMEOUT_S, Record
from segments.settings import Settings
from segments.state.machine.digest import MemoryState, digest
from segments.state.machine.documents import SHARD_KEY
from segments.state.machine.shard import Shard
from segments.state.rocksdb import is_locked, open_database, scan
from segments.state.store.partition import CHANGELOG_OFFSET_KEY, partition_path
from segments.streams.shards import decode, shard_config
from segments.streams.startup_checks import changelog_topic, committed_offsets, shards_consumer

# `consume` blocks until its batch is full or this timeout ends, so keep it short.
_POLL_S = 0.1
_READ_TIMEOUT_S = 30.0
_BATCH = 5_000


class PartitionDigest(NamedTuple):
    """Digests of a shard's stored state and of a replay of its log up to the same offset.

    `replayed` is None when the beginning of the log is deleted already.
    """

    partition: int
    offset: int
    stored: str
    replayed: str | None


class OperationError(RuntimeError):
    """The operation is not possible; the message gives the reason."""


def state_dir(settings: Settings) -> Path:
    """Folder of this instance's shard stores."""
    return settings.data_dir / f"shards-{settings.instance}" / settings.group("shards")


def digests(settings: Settings) -> Iterator[PartitionDigest]:
    """Compute the digests of each shard stored by this instance.

    Works next to a running process: it reads the state committed when the store is opened.
    """
    consumer = shards_consumer(settings)
    try:
        for partition in range(settings.partitions):
            path = partition_path(state_dir(settings), partition)
            if (path / "CURRENT").exists():
                offset, stored = _stored(path)
                if offset >= 0:
                    replayed = _replay(consumer, settings, partition, offset)
                    yield PartitionDigest(partition, offset, stored, replayed)
    finally:
        consumer.close()


def _stored(path: Path) -> tuple[int, str]:
    database = open_database(path, read_only=True)
    try:
        shard = database.get(SHARD_KEY)
        stored = digest(
            (key, orjson.loads(value))
            for key, value in scan(database, b"")
            if key != CHANGELOG_OFFSET_KEY
        )
        return (-1 if shard is None else orjson.loads(shard)["offset"]), stored
    finally:
        database.close()


def _replay(consumer: Consumer, settings: Settings, partition: int, until: int) -> str | None:
    topic = settings.topic(SHARDS_TOPIC)
    low, _ = consumer.get_watermark_offsets(
        TopicPartition(topic, partition), timeout=REQUEST_TIMEOUT_S
    )
    if low > 0:
        return None
    state = MemoryState()
    shard = Shard(shard_config(settings, partition), state)
    for message in _records(consumer, topic, partition):
        shard.apply(decode(_as_record(message)))
        if message.offset() >= until:
            break
    return digest(state.scan(b""))


def _as_record(message: Any) -> Record:
    return Record(
        message.topic(),
        message.partition(),
        message.offset(),
        message.timestamp()[1],
        message.key(),
        message.value(),
        message.headers() or [],
    )


def _records(consumer: Consumer, topic: str, partition: int) -> Iterator[Any]:
    """Every committed record of a partition, from its beginning to its current end."""
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING)])
    try:
        received_at_s = time.monotonic()
        while time.monotonic() - received_at_s < _READ_TIMEOUT_S:
            messages = consumer.consume(_BATCH, _POLL_S)
            if messages:
                received_at_s = time.monotonic()
            for message in messages:
                if (error := message.error()) is None:
                    yield message
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    return
                else:
                    raise KafkaException(error)
        raise OperationError(f"timed out reading {topic}[{partition}]")
    finally:
        consumer.unassign()


def reset(settings: Settings) -> bool:
    """Delete this instance's shard stores; returns whether there were any.

    No data is lost: the next start restores them from the changelog. Stop the process first:
    OperationError while a running one has the store open.
    """
    folder = state_dir(settings)
    if not folder.is_dir():
        return False
    for partition in sorted(folder.iterdir()):
        try:
            open_database(partition).close()
        except Exception as error:
            if is_locked(error):
                raise OperationError("a shards process of this instance is running") from error
    shutil.rmtree(folder)
    return True


def rebuild(settings: Settings) -> dict[int, int]:
    """Restore missing committed offsets from the changelog; returns {partition: next offset}.

    Each checkpoint writes the shard's own document, with the applied log offset, in the same
    transaction as the other documents. This instance's stores are deleted first, so that they are
    restored from the same changelog. OperationError while the group has members.
    """
    consumer = shards_consumer(settings)
    try:
        missing = [
            partition
            for partition, offset in committed_offsets(consumer, settings).items()
            if offset is None
        ]
        found = {
            partition: applied + 1
            for partition in missing
            if (applied := _applied_offset(consumer, settings, partition)) is not None
        }
        if found:
            reset(settings)
            _commit(consumer, settings, found)
        return found
    finally:
        consumer.close()


def _applied_offset(consumer: Consumer, settings: Settings, partition: int) -> int | None:
    applied: int | None = None
    for message in _records(consumer, changelog_topic(settings), partition):
        if message.key() == SHARD_KEY and message.value() is not None:
            applied = orjson.loads(message.value())["offset"]
    return applied


def _commit(consumer: Consumer, settings: Settings, offsets: dict[int, int]) -> None:
    topic = settings.topic(SHARDS_TOPIC)
    partitions = [TopicPartition(topic, number, offset) for number, offset in offsets.items()]
    try:
        committed = consumer.commit(offsets=partitions, asynchronous=False)
    except KafkaException as error:
        raise OperationError(
            f"cannot commit offsets (is a shards process running?): {error}"
        ) from error
    for tp in committed or []:
        if tp.error is not None:
            raise OperationError(f"cannot commit the offset of {topic}[{tp.partition}]: {tp.error}")
