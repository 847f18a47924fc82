"""The command producer while Kafka is unavailable, its queue is full, or delivery fails."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from segments.contracts.topics import COMMANDS_TOPIC, REFRESHES_TOPIC
from segments.http.problems import Problem
from segments.http.read.waiters import Waiters
from segments.http.write import producer as module
from segments.http.write.producer import CommandProducer
from segments.process.ports import free_port
from segments.settings import Settings
from segments.state.view.view import View
from tests.support.view.view_records import opened, result

COMMAND = {"type": "create_segment", "segment": "A", "id": "c"}


@pytest.fixture
async def view(tmp_path: Path) -> AsyncIterator[View]:
    view = opened(tmp_path / "view")
    yield view
    view.close()


@pytest.fixture
async def writer(
    view: View, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncIterator[CommandProducer]:
    """A producer whose broker does not listen."""
    monkeypatch.setattr(module, "COMMAND_QUEUE_MAX_RECORDS", 3)
    monkeypatch.setattr(module, "_DELIVERY_S", 0.2)
    monkeypatch.setattr(module, "_FLUSH_S", 0.1)
    settings = Settings(
        data_dir=tmp_path,
        kafka={"bootstrap_servers": f"127.0.0.1:{free_port()}", "options": {"log_level": "0"}},
    )
    writer = CommandProducer(settings, Waiters(view, 10))
    yield writer
    await asyncio.to_thread(writer.close)


async def problem(attempt: Any) -> Problem:
    with pytest.raises(Problem) as caught:
        await attempt
    assert (caught.value.status, caught.value.code) == (503, "kafka_unavailable")
    assert caught.value.headers == {"Retry-After": "1"}
    assert "same id" in caught.value.detail
    return caught.value


async def test_no_acknowledgement_from_kafka(writer: CommandProducer) -> None:
    assert "no acknowledgement" in (await problem(writer.write("A", COMMAND, 0))).detail
    assert "no acknowledgement" in (await problem(writer.accept("A", COMMAND))).detail
    assert "no acknowledgement" in (await problem(writer.refresh("u", "active"))).detail
    assert writer._waiters._count == 0


async def wait_for_room(writer: CommandProducer, records: int) -> None:
    """The client library's own requests are in its queue as well, shortly after the start."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(Problem):
                writer.require_room(records)
                return
            await asyncio.sleep(0.02)


async def test_a_full_queue(writer: CommandProducer) -> None:
    await wait_for_room(writer, 3)
    for _ in range(3):
        writer.send(COMMANDS_TOPIC, "A", COMMAND)
    with pytest.raises(Problem, match="too many"):
        writer.send(COMMANDS_TOPIC, "A", COMMAND)
    with pytest.raises(Problem, match="too many"):
        writer.require_room(1)
    assert "too many" in (await problem(writer.write("A", COMMAND, 5))).detail
    assert writer._waiters._count == 0


async def test_a_batch_blocks_no_other_request_when_the_queue_is_full(
    writer: CommandProducer,
) -> None:
    bulk = writer.batch(REFRESHES_TOPIC)
    for _ in range(3):
        bulk.send("u", {})
    with pytest.raises(Problem, match="too many"):
        bulk.send("u", {})
    refusing: Any = _Refusing(KafkaError(KafkaError._FATAL, "gone", fatal=True))
    bulk._producer = refusing
    with pytest.raises(Problem, match="gone"):
        bulk.send("u", {})


class _Refusing:
    """A producer that rejects every record."""

    def __init__(self, error: KafkaError) -> None:
        self._error = error

    def produce(self, *_args: Any, **_options: Any) -> None:
        raise KafkaException(self._error)

    def poll(self, _timeout_s: float) -> int:
        return 0

    def flush(self, _timeout_s: float) -> int:
        return 0


async def test_a_fatal_producer_error_stops_the_process(
    writer: CommandProducer,
) -> None:
    passing: Any = _Refusing(KafkaError(KafkaError._TIMED_OUT))
    real, writer._producer = writer._producer, passing
    await problem(writer.accept("A", COMMAND))
    assert not writer.failed.done()
    fatal: Any = _Refusing(KafkaError(KafkaError._FATAL, "gone", fatal=True))
    writer._producer = fatal
    await problem(writer.accept("A", COMMAND))
    await problem(writer.accept("A", COMMAND))
    with pytest.raises(KafkaException, match="gone"):
        await writer.failed
    writer._producer = real


class _Taking:
    """A producer that delivers when the test tells it to."""

    def __init__(self) -> None:
        self.reports: list[Any] = []

    def produce(self, *_args: Any, on_delivery: Any, headers: Any) -> None:
        assert headers is None, "nobody traces this"
        self.reports.append(on_delivery)

    def poll(self, _timeout_s: float) -> int:
        return 0

    def flush(self, _timeout_s: float) -> int:
        return 0

    def __len__(self) -> int:
        return 0


async def test_delivered_and_failed_records(writer: CommandProducer) -> None:
    taking: Any = _Taking()
    real, writer._producer = writer._producer, taking
    first, second = (writer.send(COMMANDS_TOPIC, "A", COMMAND) for _ in range(2))
    waiters = asyncio.create_task(writer.delivered(first, second, timeout_s=30))
    taking.reports[0](None, None)
    await asyncio.wait([first])
    assert not waiters.done()
    taking.reports[1](KafkaError(KafkaError._MSG_TIMED_OUT), None)
    await problem(waiters)
    alone = asyncio.create_task(writer.accept("A", COMMAND))
    await asyncio.sleep(0)
    taking.reports[2](None, None)
    await alone
    writer._producer = real


async def test_a_cancelled_write_leaves_nothing(writer: CommandProducer) -> None:
    taking: Any = _Taking()
    real, writer._producer = writer._producer, taking
    task = asyncio.create_task(writer.write("A", COMMAND, 30))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert writer._waiters._count == 0
    taking.reports[0](KafkaError(KafkaError._MSG_TIMED_OUT), None)
    await asyncio.sleep(0.01)
    writer._producer = real


async def test_a_result_in_time_and_one_after_the_wait(writer: CommandProducer) -> None:
    taking: Any = _Taking()
    real, writer._producer = writer._producer, taking
    task = asyncio.create_task(writer.write("A", COMMAND, 30))
    await asyncio.sleep(0)
    writer._waiters.notify([], {"c": result("c")})
    taking.reports[0](None, None)
    found, left_s = await task
    assert found is not None
    assert found["command_id"] == "c"
    assert 0 < left_s <= 30
    task = asyncio.create_task(writer.write("A", COMMAND, 0))
    await asyncio.sleep(0)
    taking.reports[1](None, None)
    assert await task == (None, 0.0)
    assert writer._waiters._count == 0
    writer._producer = real


async def test_accepted_commands_are_remembered_until_their_result_arrives(
    writer: CommandProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ACCEPTED_IDS_MAX", 3)
    for number in range(5):
        writer.remember(f"c{number}")
    assert [writer.is_pending(f"c{n}") for n in range(5)] == [False, False, True, True, True]
    writer.forget_all({"c3": b"", "other": b""})
    writer.forget("c2")
    assert [writer.is_pending(f"c{n}") for n in range(5)] == [False, False, False, False, True]
