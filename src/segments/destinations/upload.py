"""Chunks to a destination: the reader runs ahead by a bounded number of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from typing import TypeVar

from segments.destinations.base import Destination, DestinationError, File, Remember, Stored

T = TypeVar("T")
READ_AHEAD_CHUNKS = 4
"""Chunks that are read and not yet written."""


@dataclass
class UploadProgress:
    """How far a try is; `stored` once the file is there."""

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
    """Put all chunks there as one file. DestinationError, or whatever the chunks raise.

    `check` is asked, when all has been sent, whether that is all; what it raises takes the try
    back. No step at the destination takes longer than `step_timeout_s`.
    """

    async def step(waited_for: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(step_timeout_s):
                return await waited_for
        except TimeoutError:
            detail = f"the destination did nothing for {step_timeout_s:g} s"
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
                # It may be there by now: whoever cancels wants to know.
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
    except Exception as error:  # noqa: BLE001 - raised by whom it is handed to
        await queue.put(error)
    else:
        await queue.put(None)
