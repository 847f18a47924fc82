"""Reports are streamed: neither their rows nor their bytes are held in memory."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest

from segments.destinations.base import DestinationError, File, Remember, Stored, Upload
from segments.destinations.upload import READ_AHEAD_CHUNKS, UploadProgress, send
from tests.support.destinations.jobs import put, serving
from tests.support.destinations.month import MARCH_MS
from tests.support.destinations.places import FolderPlace
from tests.support.sidecar import PARTITIONS, entry, store

ROWS = 300_000
MOST_BYTES = 12_000_000


async def test_memory_stays_flat_over_hundreds_of_thousands_of_rows(tmp_path: Path) -> None:
    users = [str(UUID(int=number)) for number in range(1, 1_001)]
    rows = (
        entry(number % PARTITIONS, number, MARCH_MS + number, users[number % 1_000])
        for number in range(ROWS)
    )
    store(tmp_path / "data", list(rows))
    place = FolderPlace(tmp_path / "reports")
    async with serving(tmp_path / "data", place) as sidecar:
        await put(sidecar, month="2025-02")
        tracemalloc.start()
        try:
            job = await put(sidecar)
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (job["state"], job["rows_total"]) == ("done", ROWS), job
    assert job["bytes_written"] > 18_000_000
    assert peak_bytes < MOST_BYTES


class Slow:
    """A destination that writes a chunk only when the test releases it."""

    def __init__(self) -> None:
        self.let = asyncio.Semaphore(0)
        self.taken: list[bytes] = []
        self.finished = False

    @asynccontextmanager
    async def open_upload(self, file: File, remember: Remember) -> AsyncIterator[Upload]:
        yield self

    async def discard(self, leftover: str) -> None:
        pass

    async def write(self, chunk: bytes) -> None:
        await self.let.acquire()
        self.taken.append(chunk)

    async def close(self) -> None:
        pass

    async def finish(self, sent_bytes: int) -> Stored:
        self.finished = True
        return Stored("x:y")


class Source:
    """Lines, and how many of them have been read."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.asked = 0

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        for number in range(self.number):
            self.asked = number + 1
            yield b"%d\n" % number
            await asyncio.sleep(0)


async def sent(slow: Slow, chunks: AsyncGenerator[bytes, None], lines: int) -> Stored:
    async def remember(_: str) -> None:
        pass

    def check(progress: UploadProgress) -> None:
        if progress.rows != lines:
            raise DestinationError("differs", f"{progress.rows} lines")

    return await send(
        slow,
        File("f", 100),
        chunks,
        UploadProgress(),
        remember=remember,
        check=check,
        step_timeout_s=20,
    )


async def test_the_reader_waits_for_the_writer() -> None:
    slow, source = Slow(), Source(100)
    sending = asyncio.create_task(sent(slow, source.chunks(), 100))
    for taken in range(5):
        for _ in range(200):
            await asyncio.sleep(0)
        # One is being written, READ_AHEAD_CHUNKS are queued, and the reader holds one.
        assert (len(slow.taken), source.asked) == (taken, taken + READ_AHEAD_CHUNKS + 2)
        slow.let.release()
    for _ in range(100):
        slow.let.release()
    await sending
    assert slow.finished
    assert slow.taken == [b"%d\n" % number for number in range(100)]


async def test_an_incomplete_upload_is_not_completed() -> None:
    slow = Slow()
    for _ in range(3):
        slow.let.release()
    with pytest.raises(DestinationError, match="3 lines"):
        await sent(slow, Source(3).chunks(), 4)
    assert not slow.finished


async def test_errors_of_the_reader_are_raised_and_the_upload_is_not_completed() -> None:
    async def broken() -> AsyncGenerator[bytes, None]:
        yield b"1\n"
        raise RuntimeError("rows are missing")

    slow = Slow()
    slow.let.release()
    with pytest.raises(RuntimeError, match="rows are missing"):
        await sent(slow, broken(), 1)
    assert not slow.finished
