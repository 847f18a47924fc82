"""The view consumer: start offsets, completeness, progress reports and fatal errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from segments.contracts.topics import DEFINITIONS_TOPIC, RESULTS_TOPIC, USERS_TOPIC
from segments.http.read import view_consumer as module
from segments.http.read.view_consumer import TOPICS, ViewConsumer, ViewConsumerError
from segments.settings import Settings
from segments.state.view.view import View
from segments.state.view.writer import ViewBatch
from tests.support.view.view_records import (
    definition,
    document,
    held,
    marker,
    opened,
    progress_key,
    result,
)

USER = str(UUID(int=1))
EOF = KafkaError._PARTITION_EOF
PARTITIONS = 2


class FakeMessage:
    """A record, or an error about a partition."""

    def __init__(
        self,
        topic: str,
        partition: int,
        *,
        key: bytes | None = None,
        value: bytes | None = None,
        offset: int = 0,
        at_ms: int = 0,
        error: KafkaError | None = None,
    ) -> None:
        self._fields = (topic, partition, key, value, offset, at_ms, error)

    def topic(self) -> str:
        return self._fields[0]

    def partition(self) -> int:
        return self._fields[1]

    def key(self) -> bytes | None:
        return self._fields[2]

    def value(self) -> bytes | None:
        return self._fields[3]

    def offset(self) -> int:
        return self._fields[4]

    def timestamp(self) -> tuple[int, int]:
        return 1, self._fields[5]

    def error(self) -> KafkaError | None:
        return self._fields[6]


class FakeConsumer:
    """Returns what a test puts into `batches`, one batch per poll."""

    def __init__(self) -> None:
        self.batches: list[list[FakeMessage]] = []
        self.assigned: list[TopicPartition] = []
        self.low = 0
        self.by_time = 5
        self.closed = False
        self.config: dict[str, Any] = {}
        self._rest: list[FakeMessage] = []

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned = partitions

    def poll(self, _timeout_s: float) -> FakeMessage | None:
        if not self.batches:
            time.sleep(0.001)
            return None
        first, *self._rest = self.batches.pop(0)
        return first

    def consume(self, _records: int, timeout: float) -> list[FakeMessage]:
        rest, self._rest = self._rest, []
        return rest

    def get_watermark_offsets(self, _tp: TopicPartition, timeout: float) -> tuple[int, int]:
        return self.low, 100

    def offsets_for_times(
        self, wanted: list[TopicPartition], timeout: float
    ) -> list[TopicPartition]:
        return [TopicPartition(tp.topic, tp.partition, self.by_time) for tp in wanted]

    def close(self) -> None:
        self.closed = True


class ConsumerHarness:
    """A view consumer over a view and a fake Kafka consumer, and its progress reports."""

    def __init__(self, folder: Path, consumer: FakeConsumer, **http: Any) -> None:
        self.settings = Settings(data_dir=folder, partitions=PARTITIONS, http=http)
        self.view = opened(folder / "view")
        self.consumer = consumer
        self.advanced: list[int] = []
        self.results: dict[str, bytes] = {}
        self.feed = ViewConsumer(self.settings, self.view, self._report)

    def _report(self, advanced: Iterable[int], results: Mapping[str, bytes]) -> None:
        self.advanced += advanced
        self.results |= results

    def give(self, *messages: FakeMessage) -> None:
        self.consumer.batches.append(list(messages))

    def ends(self) -> list[FakeMessage]:
        """An end-of-partition event for every assigned partition."""
        return [
            FakeMessage(topic, partition, error=KafkaError(EOF))
            for topic in TOPICS
            for partition in range(PARTITIONS)
        ]

    async def until(self, what: str) -> None:
        """Wait until an expression about this object is true."""
        for _ in range(5_000):
            if eval(what, {"harness": self}):
                return
            await asyncio.sleep(0.002)
        raise AssertionError(f"never came: {what}")

    async def failure(self) -> BaseException:
        await asyncio.wait([self.feed.failed], timeout=30)
        error = self.feed.failed.exception()
        assert error is not None
        return error

    @property
    def marked(self) -> bool:
        return (self.view.folder / "rebuild").exists()


@pytest.fixture
def consumer(monkeypatch: pytest.MonkeyPatch) -> FakeConsumer:
    consumer = FakeConsumer()

    def make(config: dict[str, Any]) -> FakeConsumer:
        consumer.config = config
        return consumer

    monkeypatch.setattr(module, "Consumer", make)
    return consumer


@pytest.fixture
async def harness(tmp_path: Path, consumer: FakeConsumer) -> AsyncIterator[ConsumerHarness]:
    harness = ConsumerHarness(tmp_path, consumer)
    yield harness
    await asyncio.to_thread(harness.feed.close)
    harness.view.close()


def users_record(user_id: str, offset: int) -> FakeMessage:
    value = document(user_id, {"A": held()})
    return FakeMessage(USERS_TOPIC, 0, key=user_id.encode(), value=value, offset=offset)


async def test_the_view_is_complete_when_every_partition_was_read_to_its_end(
    harness: ConsumerHarness,
) -> None:
    assert not harness.feed.caught_up, "not before it has even begun"
    harness.feed.start()
    *most, last = harness.ends()
    harness.give(users_record(USER, 7), *most)
    await harness.until("harness.view.user('00000000-0000-0000-0000-000000000001') is not None")
    assert not harness.view.complete
    assert not harness.feed.caught_up
    harness.give(last)
    await harness.until("harness.view.complete and harness.feed.caught_up")
    assert harness.view.offsets() == {(USERS_TOPIC, 0): 8}
    assert harness.consumer.config["isolation.level"] == "read_committed"
    assert harness.consumer.config["enable.auto.commit"] is False


async def test_progress_is_reported_in_the_event_loop(harness: ConsumerHarness) -> None:
    harness.feed.start()
    harness.give(
        FakeMessage(USERS_TOPIC, 1, key=progress_key(1), value=marker(9, defined=3)),
        FakeMessage(RESULTS_TOPIC, 0, key=b"c", value=result("c"), at_ms=1),
        FakeMessage(USERS_TOPIC, 0, key=None, value=b"{}", offset=3),
    )
    await harness.until("harness.results")
    assert list(harness.results) == ["c"]
    assert harness.advanced == []
    harness.give(FakeMessage(DEFINITIONS_TOPIC, 1, key=b"A", value=definition("A", position="1:3")))
    await harness.until("harness.advanced")
    assert harness.advanced == [1]


async def test_it_resumes_from_the_stored_offsets(harness: ConsumerHarness) -> None:
    harness.feed.start()
    harness.give(
        users_record(USER, 7), FakeMessage(RESULTS_TOPIC, 1, key=b"c", value=result("c"), offset=42)
    )
    await harness.until("harness.view.offsets()")
    starts = {(tp.topic, tp.partition): tp.offset for tp in harness.consumer.assigned}
    assert starts == {
        (USERS_TOPIC, 0): OFFSET_BEGINNING,
        (USERS_TOPIC, 1): OFFSET_BEGINNING,
        (DEFINITIONS_TOPIC, 0): OFFSET_BEGINNING,
        (DEFINITIONS_TOPIC, 1): OFFSET_BEGINNING,
        (RESULTS_TOPIC, 0): 5,
        (RESULTS_TOPIC, 1): 5,
    }, "of results only those that are kept are read"
    await asyncio.to_thread(harness.feed.close)
    assert harness.consumer.closed
    again = ViewConsumer(harness.settings, harness.view, harness._report)
    again.start()
    harness.give(*harness.ends())
    await harness.until("harness.view.complete")
    starts = {(tp.topic, tp.partition): tp.offset for tp in harness.consumer.assigned}
    assert starts[USERS_TOPIC, 0] == 8
    assert starts[RESULTS_TOPIC, 1] == 43
    await asyncio.to_thread(again.close)


async def test_results_deleted_by_retention_are_skipped(harness: ConsumerHarness) -> None:
    with_offset = ConsumerHarness.give
    harness.feed.start()
    with_offset(harness, FakeMessage(RESULTS_TOPIC, 0, key=b"c", value=result("c"), offset=3))
    await harness.until("harness.view.offsets()")
    await asyncio.to_thread(harness.feed.close)
    harness.consumer.low, harness.consumer.by_time = 50, -1
    again = ViewConsumer(harness.settings, harness.view, harness._report)
    again.start()
    harness.give(*harness.ends())
    await harness.until("harness.view.complete")
    starts = {(tp.topic, tp.partition): tp.offset for tp in harness.consumer.assigned}
    assert starts[RESULTS_TOPIC, 0] == 100, (
        "none is as young as those that are kept: begin at the end"
    )
    await asyncio.to_thread(again.close)


async def test_only_users_of_its_partitions_are_stored(
    tmp_path: Path, consumer: FakeConsumer
) -> None:
    harness = ConsumerHarness(tmp_path, consumer, partitions=[1])
    harness.feed.start()
    await harness.until("harness.consumer.assigned")
    starts = {(tp.topic, tp.partition) for tp in consumer.assigned}
    assert starts == {(name, n) for name in TOPICS for n in range(2)} - {(USERS_TOPIC, 0)}
    await asyncio.to_thread(harness.feed.close)
    harness.view.close()


async def test_old_results_are_removed_faster_than_new_ones_arrive(
    harness: ConsumerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EXPIRY_INTERVAL_S", 0)
    monkeypatch.setattr(module, "_EXPIRED_MIN", 1)
    now_ms = time.time_ns() // 1_000_000
    harness.feed.start()
    for start in range(0, 500, 50):
        harness.give(
            *(
                FakeMessage(
                    RESULTS_TOPIC, 0, key=b"c%d" % n, value=result(f"c{n}"), offset=n, at_ms=n
                )
                for n in range(start, start + 50)
            )
        )
    harness.give(FakeMessage(RESULTS_TOPIC, 0, key=b"new", value=result("new"), at_ms=now_ms))
    await harness.until("harness.view.result('new') and not harness.view.old_results(10**9, 1)")
    assert harness.view.result("c499") is None


# --- giving up ---


@pytest.mark.parametrize("code", module._OFFSET_LOST)
async def test_missing_offsets_rebuild_the_view(harness: ConsumerHarness, code: int) -> None:
    harness.feed.start()
    harness.give(users_record(USER, 7), FakeMessage(USERS_TOPIC, 1, error=KafkaError(code)))
    assert isinstance(await harness.failure(), ViewConsumerError)
    assert harness.marked
    assert not harness.feed.alive or not harness.feed.caught_up
    assert harness.view.user(USER) is None, "the batch was not written"


async def test_a_fatal_kafka_error_keeps_the_view(harness: ConsumerHarness) -> None:
    harness.feed.start()
    error = KafkaError(KafkaError._FATAL, "no", fatal=True)
    harness.give(FakeMessage(USERS_TOPIC, 0, error=error))
    assert isinstance(await harness.failure(), KafkaException)
    assert not harness.marked


async def test_unavailable_brokers_are_retried(harness: ConsumerHarness) -> None:
    harness.feed.start()
    harness.give(FakeMessage(USERS_TOPIC, 0, error=KafkaError(KafkaError._ALL_BROKERS_DOWN)))
    harness.give(users_record(USER, 7), *harness.ends())
    await harness.until("harness.view.complete")
    assert not harness.feed.failed.done()


async def test_an_invalid_record_is_reported_and_not_skipped(harness: ConsumerHarness) -> None:
    """A rebuild would fail at the same record, so the view is kept for diagnosis."""
    harness.feed.start()
    harness.give(FakeMessage(USERS_TOPIC, 0, key=b"no uuid", value=b"{}"))
    assert isinstance(await harness.failure(), (KeyError, ValueError))
    assert not harness.marked
    assert harness.view.offsets() == {}


async def test_a_view_that_cannot_be_written_is_rebuilt(
    harness: ConsumerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_batch: object) -> None:
        raise Exception("Corruption: block checksum mismatch")  # noqa: TRY002 - as rocksdict does

    monkeypatch.setattr(ViewBatch, "write", write)
    harness.feed.start()
    harness.give(users_record(USER, 7))
    assert "Corruption" in str(await harness.failure())
    assert harness.marked


async def test_a_full_disk_keeps_the_view(
    harness: ConsumerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_batch: object) -> None:
        raise Exception("IO error: No space left on device")  # noqa: TRY002 - as rocksdict does

    monkeypatch.setattr(ViewBatch, "write", write)
    harness.feed.start()
    harness.give(users_record(USER, 7))
    assert "space" in str(await harness.failure())
    assert not harness.marked


async def test_damage_found_by_a_reader_rebuilds_the_view(harness: ConsumerHarness) -> None:
    harness.feed.start()
    harness.feed.report_damage(Exception("Corruption: block checksum mismatch"))
    harness.feed.report_damage(Exception("Corruption: another"))
    assert "checksum" in str(await harness.failure())
    assert harness.marked
    reopened: View = harness.view
    assert reopened.folder.exists()
