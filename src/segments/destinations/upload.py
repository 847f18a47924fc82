"""Streams chunks to a destination, reading a bounded number of them ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TypeVar

from segments.destinations.base import Destination, DestinationError, File, Remember, Stored

T = TypeVar("T")
READ_AHEAD_CHUNKS = 4
"""Maximum number of chunks that are read but not yet written."""


@dataclass
class UploadProgress:
    """Progress of an upload; `stored` is set once the file is stored."""

    rows: int = 0
    bytes: int = 0
    stored: Stored | None = None


async def send(
    destination: Destination,
    file: File,
    chunks: AsyncGenerator[bytes, None],
    progress: UploadProgress,
    *,
    remember: Remember,
    check: Callable[[UploadProgress], None],
    step_timeout_s: float,
) -> Stored:
    """Upload all chunks as one file. DestinationError, or the error of the chunks.

    `check` is called after the last chunk; if it raises, the upload is removed. Each step at the
    destination has a timeout of `step_timeout_s`.
    """

    async def step(work: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(step_timeout_s):
                return await work
        except TimeoutError:
            detail = f"the destination did not respond for {step_timeout_s:g} s"
            raise DestinationError("timeout", detail) from None

    queue: asyncio.Queue[bytes | BaseException | None] = asyncio.Queue(READ_AHEAD_CHUNKS)
    reader = asyncio.create_task(_read(chunks, queue))
    try:
        async with AsyncExitStack() as stack:
            entering = stack.enter_async_context(destination.open_upload(file, remember))
            upload = await step(entering)
            while (chunk := await queue.get()) is not None:
                if isinstance(chunk, BaseException):
                    raise chunk
                await step(upload.write(chunk))
                progress.rows += chunk.count(b"\n")
                progress.bytes += len(chunk)
            await step(upload.close())
            check(progress)
            finishing = asyncio.create_task(step(upload.finish(progress.bytes)))
            try:
                progress.stored = await asyncio.shield(finishing)
            except asyncio.CancelledError:
                # The file may be stored by now, which the caller has to know.
                await asyncio.wait([finishing])
                if not finishing.cancelled() and finishing.exception() is None:
                    progress.stored = finishing.result()
                raise
            return progress.stored
    finally:
        reader.cancel()
        await asyncio.wait([reader])


async def _read(
    chunks: AsyncGenerator[bytes, None], queue: asyncio.Queue[bytes | BaseException | None]
) -> None:
    try:
        async with aclosing(chunks):
            async for chunk in chunks:
                await queue.put(chunk)
    except Exception as error:  # noqa: BLE001 - raised by the consumer of the queue
        await queue.put(error)
    else:
        await queue.put(None)
