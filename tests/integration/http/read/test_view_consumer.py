"""How the view is filled: from where, until when it counts as complete, and when it gives up."""

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
    """Gives what a test puts into `batches`, one batch a poll."""

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


class Fed:
    """A feed over a view and a fake consumer, and what it reported."""

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
        """The end of every assigned partition."""
        return [
            FakeMessage(topic, partition, error=KafkaError(EOF))
            for topic in TOPICS
            for partition in range(PARTITIONS)
        ]

    async def until(self, what: str) -> None:
        """Wait until an expression about this object is true."""
        for _ in range(5_000):
            if eval(what, {"fed": self}):
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
async def fed(tmp_path: Path, consumer: FakeConsumer) -> AsyncIterator[Fed]:
    fed = Fed(tmp_path, consumer)
    yield fed
    await asyncio.to_thread(fed.feed.close)
    fed.view.close()


def users_record(user_id: str, offset: int) -> FakeMessage:
    value = document(user_id, {"A": held()})
    return FakeMessage(USERS_TOPIC, 0, key=user_id.encode(), value=value, offset=offset)


async def test_it_is_complete_when_every_partition_was_read_to_its_end(fed: Fed) -> None:
    assert not fed.feed.caught_up, "not before it has even begun"
    fed.feed.start()
    *most, last = fed.ends()
    fed.give(users_record(USER, 7), *most)
    await fed.until("fed.view.user('00000000-0000-0000-0000-000000000001') is not None")
    assert not fed.view.complete
    assert not fed.feed.caught_up
    fed.give(last)
    await fed.until("fed.view.complete and fed.feed.caught_up")
    assert fed.view.offsets() == {(USERS_TOPIC, 0): 8}
    assert fed.consumer.config["isolation.level"] == "read_committed"
    assert fed.consumer.config["enable.auto.commit"] is False


async def test_what_came_is_told_in_the_event_loop(fed: Fed) -> None:
    fed.feed.start()
    fed.give(
        FakeMessage(USERS_TOPIC, 1, key=progress_key(1), value=marker(9, defined=3)),
        FakeMessage(RESULTS_TOPIC, 0, key=b"c", value=result("c"), at_ms=1),
        FakeMessage(USERS_TOPIC, 0, key=None, value=b"{}", offset=3),
    )
    await fed.until("fed.results")
    assert list(fed.results) == ["c"]
    assert fed.advanced == []
    fed.give(FakeMessage(DEFINITIONS_TOPIC, 1, key=b"A", value=definition("A", position="1:3")))
    await fed.until("fed.advanced")
    assert fed.advanced == [1]


async def test_it_goes_on_from_the_stored_offsets(fed: Fed) -> None:
    fed.feed.start()
    fed.give(
        users_record(USER, 7), FakeMessage(RESULTS_TOPIC, 1, key=b"c", value=result("c"), offset=42)
    )
    await fed.until("fed.view.offsets()")
    starts = {(tp.topic, tp.partition): tp.offset for tp in fed.consumer.assigned}
    assert starts == {
        (USERS_TOPIC, 0): OFFSET_BEGINNING,
        (USERS_TOPIC, 1): OFFSET_BEGINNING,
        (DEFINITIONS_TOPIC, 0): OFFSET_BEGINNING,
        (DEFINITIONS_TOPIC, 1): OFFSET_BEGINNING,
        (RESULTS_TOPIC, 0): 5,
        (RESULTS_TOPIC, 1): 5,
    }, "of results only those that are kept are read"
    await asyncio.to_thread(fed.feed.close)
    assert fed.consumer.closed
    again = ViewConsumer(fed.settings, fed.view, fed._report)
    again.start()
    fed.give(*fed.ends())
    await fed.until("fed.view.complete")
    starts = {(tp.topic, tp.partition): tp.offset for tp in fed.consumer.assigned}
    assert starts[USERS_TOPIC, 0] == 8
    assert starts[RESULTS_TOPIC, 1] == 43
    await asyncio.to_thread(again.close)


async def test_results_that_kafka_forgot_are_no_loss(fed: Fed) -> None:
    with_offset = Fed.give
    fed.feed.start()
    with_offset(fed, FakeMessage(RESULTS_TOPIC, 0, key=b"c", value=result("c"), offset=3))
    await fed.until("fed.view.offsets()")
    await asyncio.to_thread(fed.feed.close)
    fed.consumer.low, fed.consumer.by_time = 50, -1
    again = ViewConsumer(fed.settings, fed.view, fed._report)
    again.start()
    fed.give(*fed.ends())
    await fed.until("fed.view.complete")
    starts = {(tp.topic, tp.partition): tp.offset for tp in fed.consumer.assigned}
    assert starts[RESULTS_TOPIC, 0] == 100, (
        "none is as young as those that are kept: begin at the end"
    )
    await asyncio.to_thread(again.close)


async def test_only_the_users_of_its_partitions(tmp_path: Path, consumer: FakeConsumer) -> None:
    fed = Fed(tmp_path, consumer, partitions=[1])
    fed.feed.start()
    await fed.until("fed.consumer.assigned")
    starts = {(tp.topic, tp.partition) for tp in consumer.assigned}
    assert starts == {(name, n) for name in TOPICS for n in range(2)} - {(USERS_TOPIC, 0)}
    await asyncio.to_thread(fed.feed.close)
    fed.view.close()


async def test_old_results_are_forgotten_faster_than_they_come(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_EXPIRY_INTERVAL_S", 0)
    monkeypatch.setattr(module, "_EXPIRED_MIN", 1)
    now_ms = time.time_ns() // 1_000_000
    fed.feed.start()
    for start in range(0, 500, 50):
        fed.give(
            *(
                FakeMessage(
                    RESULTS_TOPIC, 0, key=b"c%d" % n, value=result(f"c{n}"), offset=n, at_ms=n
                )
                for n in range(start, start + 50)
            )
        )
    fed.give(FakeMessage(RESULTS_TOPIC, 0, key=b"new", value=result("new"), at_ms=now_ms))
    await fed.until("fed.view.result('new') and not fed.view.old_results(10**9, 1)")
    assert fed.view.result("c499") is None


# --- giving up ---


@pytest.mark.parametrize("code", module._OFFSET_LOST)
async def test_offsets_that_are_gone_make_it_anew(fed: Fed, code: int) -> None:
    fed.feed.start()
    fed.give(users_record(USER, 7), FakeMessage(USERS_TOPIC, 1, error=KafkaError(code)))
    assert isinstance(await fed.failure(), ViewConsumerError)
    assert fed.marked
    assert not fed.feed.alive or not fed.feed.caught_up
    assert fed.view.user(USER) is None, "the batch was not written"


async def test_kafka_that_refuses_for_good_is_no_fault_of_the_view(fed: Fed) -> None:
    fed.feed.start()
    error = KafkaError(KafkaError._FATAL, "no", fatal=True)
    fed.give(FakeMessage(USERS_TOPIC, 0, error=error))
    assert isinstance(await fed.failure(), KafkaException)
    assert not fed.marked


async def test_kafka_that_is_away_is_waited_for(fed: Fed) -> None:
    fed.feed.start()
    fed.give(FakeMessage(USERS_TOPIC, 0, error=KafkaError(KafkaError._ALL_BROKERS_DOWN)))
    fed.give(users_record(USER, 7), *fed.ends())
    await fed.until("fed.view.complete")
    assert not fed.feed.failed.done()


async def test_a_record_that_nobody_understands_is_told_and_not_passed_over(fed: Fed) -> None:
    """Filled anew it would end at the same record: the view is kept for who looks into it."""
    fed.feed.start()
    fed.give(FakeMessage(USERS_TOPIC, 0, key=b"no uuid", value=b"{}"))
    assert isinstance(await fed.failure(), (KeyError, ValueError))
    assert not fed.marked
    assert fed.view.offsets() == {}


async def test_a_view_that_cannot_be_written_is_made_anew(
    fed: Fed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(_batch: object) -> None:
        raise Exception("Corruption: block checksum mismatch")  # noqa: TRY002 - as rocksdict does

    monkeypatch.setattr(ViewBatch, "write", write)
    fed.feed.start()
    fed.give(users_record(USER, 7))
    assert "Corruption" in str(await fed.failure())
    assert fed.marked


async def test_a_full_disk_costs_nobody_the_view(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(_batch: object) -> None:
        raise Exception("IO error: No space left on device")  # noqa: TRY002 - as rocksdict does

    monkeypatch.setattr(ViewBatch, "write", write)
    fed.feed.start()
    fed.give(users_record(USER, 7))
    assert "space" in str(await fed.failure())
    assert not fed.marked


async def test_a_reader_that_finds_damage_gives_the_view_up(fed: Fed) -> None:
    fed.feed.start()
    fed.feed.report_damage(Exception("Corruption: block checksum mismatch"))
    fed.feed.report_damage(Exception("Corruption: another"))
    assert "checksum" in str(await fed.failure())
    assert fed.marked
    reopened: View = fed.view
    assert reopened.folder.exists()
