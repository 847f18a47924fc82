"""The HTTP sidecar in the test's process: real view and history store, no Kafka.

Tests write the shards' output into the view; commands are collected in a list.
"""

from __future__ import annotations

import asyncio
import csv
import io
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import httpx

from segments.contracts.partitioning import partition_of
from segments.contracts.times import from_rfc3339
from segments.http.app import build, view_folder
from segments.http.context import Services
from segments.http.problems import Problem
from segments.http.read.waiters import Waiters
from segments.http.read.watermark import Watermark
from segments.http.server.listener import serving
from segments.settings import Settings
from segments.state.history.protocol import HistoryReader, StoredRow
from segments.state.history.reader import SqliteHistoryReader
from segments.state.history.sqlite import database_path
from segments.state.history.writer import SqliteHistoryWriter
from segments.state.view.view import View
from tests.support.openapi import conformity
from tests.support.view.view_records import (
    ViewFiller,
    definition,
    document,
    marker,
    progress_key,
    result,
)

PARTITIONS = 2
NOW_MS = 4_000_000_000_000
"""A timestamp after that of every test: everything before it counts as complete."""


class FakeViewConsumer:
    """Consumes nothing; reports the state that a test sets."""

    def __init__(self) -> None:
        self.alive = True
        self.caught_up = True
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.errors: list[Exception] = []

    def report_damage(self, error: Exception) -> None:
        self.errors.append(error)


class FakeProducer:
    """Collects commands. `decide` returns a command's result, or None if there will be none."""

    def __init__(self, waiters: Waiters) -> None:
        self._waiters = waiters
        self.sent: list[tuple[str, dict[str, Any]]] = []
        self.remembered: set[str] = set()
        self.room = 100_000
        self.lost_after: int | None = None
        """Number of records after which Kafka rejects more."""
        self.decide: Any = lambda _command: None
        self.queued = 0

    def require_room(self, records: int) -> None:
        if records > self.room:
            raise Problem(503, "kafka_unavailable", "no room")

    def send(self, topic: str, key: str, value: dict[str, Any]) -> asyncio.Future[None]:
        if self.lost_after is not None and len(self.sent) >= self.lost_after:
            raise Problem(503, "kafka_unavailable", "away")
        self.sent.append((key, value))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_result(None)
        return future

    async def delivered(self, *_deliveries: object, timeout_s: float = 0) -> None:
        pass

    def batch(self, topic: str) -> FakeBatch:
        return FakeBatch(self, topic)

    async def write(
        self, key: str, command: dict[str, Any], wait_s: float
    ) -> tuple[dict[str, Any] | None, float]:
        self.sent.append((key, command))
        decided = self.decide(command)
        return decided, wait_s

    async def accept(self, key: str, command: dict[str, Any]) -> None:
        self.sent.append((key, command))

    async def refresh(self, user_id: str, state: str) -> None:
        self.sent.append((user_id, {"state": state}))

    def remember(self, command_id: str) -> None:
        self.remembered.add(command_id)

    def forget(self, command_id: str) -> None:
        self.remembered.discard(command_id)

    def is_pending(self, command_id: str) -> bool:
        return command_id in self.remembered


class FakeBatch:
    """Sends its records to the fake producer."""

    def __init__(self, writer: FakeProducer, topic: str) -> None:
        self._writer = writer
        self._topic = topic

    def send(self, key: str, value: dict[str, Any]) -> None:
        self._writer.send(self._topic, key, value)

    async def wait_for_room(self) -> None:
        await asyncio.sleep(0)

    async def flush(self) -> None:
        pass


class Sidecar:
    """A running sidecar, its services and a client."""

    def __init__(self, services: Services, port: int, client: httpx.AsyncClient) -> None:
        self.services = services
        self.port = port
        self.client = client
        self.fill = ViewFiller(services.view)
        self._offset = 0

    @property
    def view_consumer(self) -> FakeViewConsumer:
        return cast(FakeViewConsumer, self.services.view_consumer)

    @property
    def producer(self) -> FakeProducer:
        return cast(FakeProducer, self.services.producer)

    async def get(self, path: str, **options: Any) -> httpx.Response:
        return await self.client.get(path, **options)

    def user(self, user_id: str, segments: dict[str, Any], account: str = "active") -> None:
        """Write a user's document, with a position in the user's shard."""
        position = f"{partition_of(user_id, PARTITIONS)}:1"
        with self.fill as batch:
            value = document(user_id, segments, account)
            batch.user(user_id.encode(), value.replace(b'"0:1"', b'"%s"' % position.encode()))

    def define(self, segment: str, generation: int = 1, state: str = "active") -> None:
        position = f"{partition_of(segment, PARTITIONS)}:1"
        with self.fill as batch:
            batch.definition(
                segment.encode(), definition(segment, generation, state=state, position=position)
            )

    def reach(self, log_offset: int, at_ms: int = NOW_MS, history_rows: int = 0) -> None:
        """Write a progress marker of every shard."""
        for partition in range(PARTITIONS):
            with self.fill as batch:
                value = marker(log_offset, at_ms, history_rows=history_rows)
                batch.user(progress_key(partition), value)
            self.services.watermark.update(self.fill.last.advanced)
            self.services.waiters.notify(self.fill.last.advanced, {})

    def result(self, command_id: str, status: str = "applied", position: str = "0:1") -> None:
        """Write a command's result."""
        value = result(command_id, status, position)
        with self.fill as batch:
            batch.result(command_id.encode(), value, 1)
        self.services.waiters.notify([], {command_id: value})

    async def raw(self, request: bytes) -> bytes:
        """Send exactly these bytes over a new connection; returns all bytes received."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request)
        await writer.drain()
        try:
            return await asyncio.wait_for(reader.read(), 20)
        finally:
            writer.close()


@asynccontextmanager
async def running(
    folder: Path,
    history: HistoryReader | None = None,
    auth: dict[str, Any] | None = None,
    reports: dict[str, Any] | None = None,
    **http: Any,
) -> AsyncIterator[Sidecar]:
    """A sidecar whose view is complete and whose shards have all reached position 1."""
    settings = Settings(
        data_dir=folder,
        partitions=PARTITIONS,
        http={"port": 0, **http},
        auth=auth or {},
        reports=reports or {},
        dev={"enabled": True},
    )
    view = View(view_folder(settings), {})
    view.mark_complete()
    reader = history or SqliteHistoryReader(database_path(settings))
    waiters = Waiters(view, settings.http.max_waiters)
    pool = ThreadPoolExecutor(2, thread_name_prefix="read")
    view_consumer: Any = FakeViewConsumer()
    producer: Any = FakeProducer(waiters)
    services = Services(
        settings, view, waiters, view_consumer, producer, reader, Watermark(view, reader), pool
    )
    try:
        async with serving(build(services), settings.http) as port:
            url = f"http://127.0.0.1:{port}"
            async with httpx.AsyncClient(
                base_url=url,
                trust_env=False,
                verify=False,
                timeout=30,
                event_hooks={"response": [conformity.check_response_async]},
            ) as client:
                sidecar = Sidecar(services, port, client)
                sidecar.reach(1)
                yield sidecar
    finally:
        pool.shutdown()
        await reader.close()
        view.close()


def store(folder: Path, entries: list[StoredRow]) -> None:
    """Write rows to the sidecar's history store; every partition is known there afterwards."""
    writer = SqliteHistoryWriter(database_path(Settings(data_dir=folder)), "topic")
    for partition in range(PARTITIONS):
        own = [entry for entry in entries if entry.partition == partition]
        writer.append(partition, own, max((e.offset + 1 for e in own), default=0))
    writer.close()


def entry(partition: int, offset: int, at_ms: int, user_id: str, **fields: Any) -> StoredRow:
    """A row of history."""
    defaults = StoredRow(
        partition=partition,
        offset=offset,
        at_ms=at_ms,
        user_id=user_id,
        segment="A",
        generation=1,
        operation="add",
        cause="command",
        command_id="c",
        actor=None,
        expires_at_ms=None,
    )
    return defaults._replace(**fields)


def report_rows(text: str) -> list[tuple[str, str, str, int]]:
    """(user id, segment, operation, timestamp in ms) of each line of a report."""
    found = csv.reader(io.StringIO(text), delimiter=";")
    return [(user, segment, operation, from_rfc3339(at)) for user, segment, operation, at in found]


def threads() -> set[str]:
    """Names of the running threads."""
    return {thread.name for thread in threading.enumerate()}


def assert_problem(
    response: httpx.Response, status: int, code: str, **members: Any
) -> Mapping[str, Any]:
    """Assert that the response is a problem (RFC 9457) with these members; returns its body."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "code"} <= body.keys()
    assert (body["status"], body["code"]) == (status, code), body
    assert body["type"] == f"urn:segments:problem:{code}"
    assert isinstance(body["title"], str)
    assert isinstance(body["detail"], str)
    for name, value in members.items():
        assert body[name] == value, body
    return body


async def until(predicate: Callable[[], bool], what: str) -> None:
    """Wait for a condition inside this process."""
    for _ in range(3_000):
        if predicate():
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{what} did not come")
