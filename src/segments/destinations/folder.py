"""A local or mounted folder: an unfinished file is renamed at its end."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from segments.destinations.base import (
    DestinationError,
    File,
    Remember,
    Stored,
    clean_up,
    link,
    part_name,
    require_length,
)
from segments.settings.destinations import FolderDestination

T = TypeVar("T")
_write = os.write
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR})


def create(
    settings: FolderDestination,
    step_timeout_s: float,  # noqa: ARG001 - the signature of every kind
) -> Folder:
    """The destination for these settings."""
    return Folder(settings)


class Folder:
    """See Destination."""

    def __init__(self, settings: FolderDestination) -> None:
        self._settings = settings

    @asynccontextmanager
    async def open_upload(self, file: File, remember: Remember) -> AsyncIterator[FolderUpload]:
        """Start an upload."""
        part = self._settings.path / part_name(file.name)
        await remember(part.name)
        # A dedicated thread: a folder that hangs blocks no other upload.
        thread = _Thread()
        upload = FolderUpload(thread, part, file.name, self._settings)
        try:
            await thread.run(upload.open)
            yield upload
        finally:
            await clean_up(thread.run(upload.release))
            thread.end()

    async def discard(self, leftover: str) -> None:
        """Remove the unfinished file of an earlier upload."""
        path = self._settings.path / leftover
        thread = _Thread()
        try:
            await thread.run(lambda: path.unlink(missing_ok=True))
        finally:
            thread.end()


class FolderUpload:
    """See Upload."""

    def __init__(self, thread: _Thread, part: Path, name: str, settings: FolderDestination) -> None:
        self._thread = thread
        self._part = part
        self._path = part.with_name(name)
        self._settings = settings
        self._descriptor = -1

    def open(self) -> None:
        """Create the unfinished file."""
        self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)

    async def write(self, chunk: bytes) -> None:
        """Append to the unfinished file."""
        await self._thread.run(self._write, chunk)

    async def close(self) -> None:
        """Sync the file to disk."""
        await self._thread.run(os.fsync, self._descriptor)

    async def finish(self, sent_bytes: int) -> Stored:
        """Rename the file, and sync the folder to disk."""
        await self._thread.run(self._finish, sent_bytes)
        if self._settings.public_url is None:
            return Stored(self._path.absolute().as_uri())
        return Stored(link(self._settings.public_url, self._path.name))

    def release(self) -> None:
        """Close the file, and delete it if it was not renamed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._part.unlink(missing_ok=True)

    def _write(self, chunk: bytes) -> None:
        rest = memoryview(chunk)
        while rest:
            rest = rest[_write(self._descriptor, rest) :]

    def _finish(self, sent_bytes: int) -> None:
        require_length(os.fstat(self._descriptor).st_size, sent_bytes)
        self._part.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class _Thread:
    """A single thread; OSErrors are raised as DestinationError."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="folder")

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._executor, work, *arguments)
        except OSError as error:
            raise _translate(error) from error

    def end(self) -> None:
        self._executor.shutdown(wait=False, cancel_futures=True)


def _translate(error: OSError) -> DestinationError:
    detail = f"{error.strerror or type(error).__name__}: {error.filename or 'the folder'}"
    if error.errno in _FULL:
        return DestinationError("full", detail)
    if error.errno in _REFUSED:
        return DestinationError("refused", detail, lasting=True)
    return DestinationError("failed", detail)
