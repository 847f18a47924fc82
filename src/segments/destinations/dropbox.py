"""Dropbox, over its own SDK: an upload session that becomes a file at its end.

A session is never seen as a file; one that is left unfinished runs out at Dropbox.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from segments.destinations.base import (
    UPLOAD_PIECE_BYTES,
    DestinationError,
    File,
    Remember,
    Stored,
)
from segments.destinations.dropbox_calls import Calls
from segments.settings.destinations import DropboxDestination

_BLOCK_BYTES = 4 * 1024 * 1024


def create(settings: DropboxDestination, step_timeout_s: float) -> Dropbox:
    """The destination for these settings."""
    return Dropbox(settings, step_timeout_s)


class Dropbox:
    """See Destination."""

    def __init__(self, settings: DropboxDestination, step_timeout_s: float) -> None:
        self._settings = settings
        self._step_timeout_s = step_timeout_s

    @asynccontextmanager
    async def open_upload(
        self,
        file: File,
        remember: Remember,  # noqa: ARG002 - what is left there nobody sees, nor can remove
    ) -> AsyncIterator[DropboxUpload]:
        """Begin a try."""
        calls = Calls(self._settings, self._step_timeout_s)
        try:
            await calls.connect()
            yield DropboxUpload(calls, self._settings, file.name)
        finally:
            calls.end()

    async def discard(self, leftover: str) -> None:
        """Nothing was remembered."""


class DropboxUpload:
    """See Upload."""

    def __init__(self, calls: Calls, settings: DropboxDestination, name: str) -> None:
        self._calls = calls
        self._settings = settings
        self._path = f"{settings.path}/{name}"
        self._buffer = bytearray()
        self._session_id: str | None = None
        self._offset = 0
        # Dropbox's content hash: the sum of the sums of blocks, of which a piece holds whole ones.
        self._sum = hashlib.sha256()

    async def write(self, chunk: bytes) -> None:
        """Gather bytes, and send each piece that is full."""
        self._buffer += chunk
        while len(self._buffer) >= UPLOAD_PIECE_BYTES:
            await self._append(bytes(self._buffer[:UPLOAD_PIECE_BYTES]))
            del self._buffer[:UPLOAD_PIECE_BYTES]

    async def close(self) -> None:
        """Send the last piece."""
        if self._buffer or self._session_id is None:
            await self._append(bytes(self._buffer))

    async def finish(self, sent_bytes: int) -> Stored:
        """Make the session a file, and compare what Dropbox knows of it."""
        from dropbox import files  # noqa: PLC0415 - an extra

        commit = files.CommitInfo(self._path, mode=files.WriteMode.overwrite, mute=True)
        cursor = files.UploadSessionCursor(self._session_id, self._offset)
        made = await self._calls.run(
            lambda client: client.files_upload_session_finish(b"", cursor, commit)
        )
        if (made.size, made.content_hash) != (sent_bytes, self._sum.hexdigest()):
            await self._calls.run(
                lambda client: client.files_delete_v2(made.path_lower, parent_rev=made.rev)
            )
            detail = f"{sent_bytes} bytes were sent, {made.size} are there, or other ones"
            raise DestinationError("differs", detail)
        return Stored(await self._link(made))

    async def _append(self, piece: bytes) -> None:
        sums = _block_sums(piece)
        self._sum.update(sums)
        own_hash = hashlib.sha256(sums).hexdigest()
        if self._session_id is None:
            begun = await self._calls.run(
                lambda client: client.files_upload_session_start(piece, content_hash=own_hash)
            )
            self._session_id = begun.session_id
        else:
            await self._append_more(piece, own_hash)
        self._offset += len(piece)

    async def _append_more(self, piece: bytes, own_hash: str) -> None:
        from dropbox import files  # noqa: PLC0415 - an extra
        from dropbox.exceptions import ApiError  # noqa: PLC0415 - an extra

        cursor = files.UploadSessionCursor(self._session_id, self._offset)

        def append(client: Any) -> None:
            try:
                client.files_upload_session_append_v2(piece, cursor, content_hash=own_hash)
            except ApiError as error:
                # Taken before, when only its answer was lost: the hash of the whole will tell.
                if _correct_offset(error.error) != self._offset + len(piece):
                    raise

        await self._calls.run(append)

    async def _link(self, made: Any) -> str:
        """A link for whoever has it, or the place in words of a URL."""
        from dropbox.exceptions import ApiError  # noqa: PLC0415 - an extra

        if not self._settings.shared_link:
            return f"dropbox:{made.path_display}"

        def shared(client: Any) -> str:
            try:
                return str(client.sharing_create_shared_link_with_settings(made.path_lower).url)
            except ApiError as error:
                if not error.error.is_shared_link_already_exists():
                    raise
            found = client.sharing_list_shared_links(made.path_lower, direct_only=True).links
            if not found:
                raise DestinationError("failed", "Dropbox knows a link and does not tell it")
            return str(found[0].url)

        return await self._calls.run(shared)


def _block_sums(piece: bytes) -> bytes:
    return b"".join(
        hashlib.sha256(piece[start : start + _BLOCK_BYTES]).digest()
        for start in range(0, len(piece), _BLOCK_BYTES)
    )


def _correct_offset(error: Any) -> int | None:
    return error.get_incorrect_offset().correct_offset if error.is_incorrect_offset() else None
