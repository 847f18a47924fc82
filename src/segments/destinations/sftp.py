"""SFTP over asyncssh: the host key is verified, and an unfinished file is renamed at its end.

Only the settings are used: no agent, no ~/.ssh, no default keys.
"""

from __future__ import annotations

import asyncio
import posixpath
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from segments.destinations.base import (
    DestinationError,
    File,
    Remember,
    Stored,
    clean_up,
    link,
    not_installed,
    part_name,
    require_length,
)
from segments.settings.destinations import SftpDestination, secret

if TYPE_CHECKING:
    import asyncssh

    _Connected = tuple[asyncssh.SSHClientConnection, asyncssh.SFTPClient]

_KEEPALIVE_S = 15
_SSH_PORT = 22


def create(settings: SftpDestination, step_timeout_s: float) -> Sftp:
    """The destination for these settings."""
    return Sftp(settings, step_timeout_s)


class Sftp:
    """See Destination."""

    def __init__(self, settings: SftpDestination, step_timeout_s: float) -> None:
        self._settings = settings
        self._step_timeout_s = step_timeout_s

    @asynccontextmanager
    async def open_upload(self, file: File, remember: Remember) -> AsyncIterator[SftpUpload]:
        """Start an upload."""
        part = part_name(file.name)
        async with self._connected() as (connection, client):
            await remember(part)
            upload = SftpUpload(connection, client, self._settings, part, file.name)
            try:
                await upload.open()
                yield upload
            finally:
                await clean_up(upload.release())

    async def discard(self, leftover: str) -> None:
        """Remove the unfinished file of an earlier upload."""
        async with self._connected() as (_, client):
            with _translated_errors(self._settings):
                await _remove(client, posixpath.join(self._settings.path, leftover))

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[_Connected]:
        try:
            import asyncssh  # noqa: PLC0415 - an extra
        except ImportError:
            raise not_installed("asyncssh") from None
        with ExitStack() as stack:
            with _translated_errors(self._settings):
                connection = await asyncssh.connect(
                    self._settings.host,
                    self._settings.port,
                    config=None,
                    agent_path=None,
                    login_timeout=self._step_timeout_s,
                    connect_timeout=self._step_timeout_s,
                    keepalive_interval=_KEEPALIVE_S,
                    **self._identities(asyncssh),
                )
                # Aborted without waiting: the server may be unreachable.
                stack.callback(connection.abort)
                client = await connection.start_sftp_client()
            yield connection, client

    def _identities(self, asyncssh: Any) -> dict[str, Any]:
        """Credentials of the user, and the key that the server must have."""
        settings = self._settings
        key = secret(settings, "private_key")
        passphrase = secret(settings, "passphrase")
        keys = [] if key is None else [asyncssh.import_private_key(key, passphrase)]
        if settings.host_key is not None:
            known: Any = ([asyncssh.import_public_key(settings.host_key)], [], [])
        else:
            known = asyncssh.read_known_hosts(str(settings.known_hosts))
        return {
            "username": settings.username,
            "password": secret(settings, "password"),
            "client_keys": keys or None,
            "known_hosts": known,
        }


class SftpUpload:
    """See Upload."""

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        client: asyncssh.SFTPClient,
        settings: SftpDestination,
        part: str,
        name: str,
    ) -> None:
        self._connection = connection
        self._client = client
        self._settings = settings
        self._part = posixpath.join(settings.path, part)
        self._path = posixpath.join(settings.path, name)
        self._file: asyncssh.SFTPClientFile | None = None
        self._named = False

    async def open(self) -> None:
        """Create the unfinished file."""
        with _translated_errors(self._settings):
            self._file = await self._client.open(self._part, "xb")

    async def write(self, chunk: bytes) -> None:
        """Append to the unfinished file."""
        assert self._file is not None, "open was called"
        writing = asyncio.ensure_future(self._file.write(chunk))
        try:
            with _translated_errors(self._settings):
                await asyncio.shield(writing)
        except asyncio.CancelledError:
            # A cancelled write means a stalled connection: nothing gets through it any more.
            self._connection.abort()
            await asyncio.wait([writing])
            writing.exception()  # retrieved, so that asyncio does not log it
            raise

    async def close(self) -> None:
        """Sync the file to the server's disk, if the server supports it."""
        with _translated_errors(self._settings):
            await self._close()

    async def finish(self, sent_bytes: int) -> Stored:
        """Verify the length, and rename the file."""
        with _translated_errors(self._settings):
            require_length((await self._client.stat(self._part)).size, sent_bytes)
            await self._rename()
            require_length((await self._client.stat(self._path)).size, sent_bytes)
            path = str(await self._client.realpath(self._path))
        if self._settings.public_url is not None:
            return Stored(link(self._settings.public_url, posixpath.basename(self._path)))
        return Stored(self._location(path))

    async def release(self) -> None:
        """Delete the file if it was not renamed."""
        if not self._named:
            with _translated_errors(self._settings):
                await _remove(self._client, self._part)

    async def _close(self) -> None:
        from asyncssh import SFTPOpUnsupported  # noqa: PLC0415 - an extra

        assert self._file is not None, "open was called"
        with suppress(SFTPOpUnsupported):
            await self._file.fsync()
        await self._file.close()

    async def _rename(self) -> None:
        from asyncssh import SFTPOpUnsupported  # noqa: PLC0415 - an extra

        try:
            await self._client.posix_rename(self._part, self._path)
        except SFTPOpUnsupported:
            # The older request fails if the name exists; there is no atomic replacement then.
            await self._client.rename(self._part, self._path)
        self._named = True

    def _location(self, path: str) -> str:
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        port = "" if self._settings.port == _SSH_PORT else f":{self._settings.port}"
        return f"sftp://{host}{port}{quote(path)}"


async def _remove(client: asyncssh.SFTPClient, path: str) -> None:
    from asyncssh import SFTPNoSuchFile, SFTPNoSuchPath  # noqa: PLC0415 - an extra

    with suppress(SFTPNoSuchFile, SFTPNoSuchPath):
        await client.remove(path)


class _translated_errors:  # noqa: N801 - used as a function
    """Translates errors of the library, and of reading secret files, to DestinationError."""

    def __init__(self, settings: SftpDestination) -> None:
        self._server = f"{settings.host}:{settings.port}"

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        import asyncssh  # noqa: PLC0415 - an extra

        refused = (
            asyncssh.HostKeyNotVerifiable,
            asyncssh.PermissionDenied,
            asyncssh.KeyExchangeFailed,
            asyncssh.KeyImportError,
            asyncssh.SFTPPermissionDenied,
            asyncssh.SFTPNoSuchFile,
            asyncssh.SFTPNoSuchPath,
            asyncssh.SFTPWriteProtect,
            FileNotFoundError,
            PermissionError,
            UnicodeDecodeError,
        )
        full = (asyncssh.SFTPNoSpaceOnFilesystem, asyncssh.SFTPQuotaExceeded)
        if not isinstance(error, (asyncssh.Error, OSError, ValueError)):
            return
        detail = f"{self._server}: {type(error).__name__}: {error}"
        if isinstance(error, full) or "space left" in str(error):
            raise DestinationError("full", detail) from None
        if isinstance(error, refused):
            raise DestinationError("refused", detail, lasting=True) from None
        if isinstance(error, asyncssh.SFTPError) and not isinstance(
            error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)
        ):
            raise DestinationError("failed", detail) from None
        raise DestinationError("unreachable", detail) from None
