"""Dropbox, over its SDK: an upload session that is committed as a file at its end.

A session is not visible as a file; Dropbox expires unfinished ones.
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
        remember: Remember,  # noqa: ARG002 - a session is invisible and cannot be removed
    ) -> AsyncIterator[DropboxUpload]:
        """Start an upload."""
        calls = Calls(self._settings, self._step_timeout_s)
        try:
            await calls.connect()
            yield DropboxUpload(calls, self._settings, file.name)
        finally:
            calls.end()

    async def discard(self, leftover: str) -> None:
        """Do nothing: no id is ever remembered."""


class DropboxUpload:
    """See Upload."""

    def __init__(self, calls: Calls, settings: DropboxDestination, name: str) -> None:
        self._calls = calls
        self._settings = settings
        self._path = f"{settings.path}/{name}"
        self._buffer = bytearray()
        self._session_id: str | None = None
        self._offset = 0
        # Dropbox's content hash: SHA-256 of the SHA-256s of blocks. A piece has whole blocks.
        self._sum = hashlib.sha256()

    async def write(self, chunk: bytes) -> None:
        """Buffer bytes, and send each full piece."""
        self._buffer += chunk
        while len(self._buffer) >= UPLOAD_PIECE_BYTES:
            await self._append(bytes(self._buffer[:UPLOAD_PIECE_BYTES]))
            del self._buffer[:UPLOAD_PIECE_BYTES]

    async def close(self) -> None:
        """Send the last piece."""
        if self._buffer or self._session_id is None:
            await self._append(bytes(self._buffer))

    async def finish(self, sent_bytes: int) -> Stored:
        """Commit the session, and compare the size and hash that Dropbox reports."""
        from dropbox import files  # noqa: PLC0415 - an extra

        commit = files.CommitInfo(self._path, mode=files.WriteMode.overwrite, mute=True)
        cursor = files.UploadSessionCursor(self._session_id, self._offset)
        stored = await self._calls.run(
            lambda client: client.files_upload_session_finish(b"", cursor, commit)
        )
        if (stored.size, stored.content_hash) != (sent_bytes, self._sum.hexdigest()):
            await self._calls.run(
                lambda client: client.files_delete_v2(stored.path_lower, parent_rev=stored.rev)
            )
            detail = f"{sent_bytes} bytes were sent, {stored.size} are stored, or the hash differs"
            raise DestinationError("differs", detail)
        return Stored(await self._link(stored))

    async def _append(self, piece: bytes) -> None:
        sums = _block_sums(piece)
        self._sum.update(sums)
        own_hash = hashlib.sha256(sums).hexdigest()
        if self._session_id is None:
            session = await self._calls.run(
                lambda client: client.files_upload_session_start(piece, content_hash=own_hash)
            )
            self._session_id = session.session_id
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
                # Retry after a lost response: the piece is stored; the final hash verifies it.
                if _correct_offset(error.error) != self._offset + len(piece):
                    raise

        await self._calls.run(append)

    async def _link(self, stored: Any) -> str:
        """A shared link, or a `dropbox:` URL with the path."""
        from dropbox.exceptions import ApiError  # noqa: PLC0415 - an extra

        if not self._settings.shared_link:
            return f"dropbox:{stored.path_display}"

        def shared(client: Any) -> str:
            try:
                return str(client.sharing_create_shared_link_with_settings(stored.path_lower).url)
            except ApiError as error:
                if not error.error.is_shared_link_already_exists():
                    raise
            found = client.sharing_list_shared_links(stored.path_lower, direct_only=True).links
            if not found:
                raise DestinationError(
                    "failed", "Dropbox reports an existing link but does not return it"
                )
            return str(found[0].url)

        return await self._calls.run(shared)


def _block_sums(piece: bytes) -> bytes:
    return b"".join(
        hashlib.sha256(piece[start : start + _BLOCK_BYTES]).digest()
        for start in range(0, len(piece), _BLOCK_BYTES)
    )


def _correct_offset(error: Any) -> int | None:
    return error.get_incorrect_offset().correct_offset if error.is_incorrect_offset() else None
