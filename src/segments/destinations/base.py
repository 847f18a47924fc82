"""The interfaces of destinations: a file is uploaded in chunks and appears once it is complete."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, NamedTuple, Protocol
from urllib.parse import quote

from segments.telemetry import logs

CLEANUP_S = 10.0
"""Timeout for removing a failed upload, which also applies when the destination is down."""
UPLOAD_PIECE_BYTES = 8 * 1024 * 1024
"""Size of a buffered piece for destinations with multipart uploads."""
_DETAIL_MAX_LENGTH = 300

log = logs.get(__name__)

Code = Literal["unreachable", "refused", "full", "timeout", "differs", "failed", "not_installed"]


class DestinationError(Exception):
    """An upload failed; the message gives the reason to operators and contains no secret.

    `lasting`: a retry would fail the same way. `retry_after_s`: the delay that the destination
    requested.
    """

    def __init__(
        self,
        code: Code,
        detail: str,
        *,
        lasting: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(detail[:_DETAIL_MAX_LENGTH])
        self.code = code
        self.lasting = lasting
        self.retry_after_s = retry_after_s


class File(NamedTuple):
    """A file to upload. `max_bytes`: upper bound of its size."""

    name: str
    max_bytes: int


class Stored(NamedTuple):
    """An uploaded file. `url`: its location, which expires at `expires_ms` if set."""

    url: str
    expires_ms: int | None = None


Remember = Callable[[str], Awaitable[None]]
"""Persists the id of an unfinished upload, so that `discard` can remove it after a crash."""


class Upload(Protocol):
    """An upload in progress: write, close, finish. It is removed if left without `finish`."""

    async def write(self, chunk: bytes) -> None:
        """Append bytes. DestinationError."""

    async def close(self) -> None:
        """Send the buffered rest; no write may follow. DestinationError."""

    async def finish(self, sent_bytes: int) -> Stored:
        """Verify the length and publish the file under its name. DestinationError."""


class Destination(Protocol):
    """A place to which files are uploaded."""

    def open_upload(self, file: File, remember: Remember) -> AbstractAsyncContextManager[Upload]:
        """Start an upload. DestinationError, also on exit when the upload failed."""

    async def discard(self, leftover: str) -> None:
        """Remove the remains of an earlier upload by its remembered id. DestinationError."""


async def clean_up(work: Awaitable[None]) -> None:
    """Clean up after an upload. Errors are logged: the error of the upload itself matters more."""
    try:
        async with asyncio.timeout(CLEANUP_S):
            await work
    except Exception as error:  # noqa: BLE001 - the next attempt cleans up
        log.warning("upload_cleanup_failed", error=type(error).__name__)


def part_name(name: str) -> str:
    """A unique temporary name for an unfinished file.

    Unique, so that a delayed write of an earlier attempt cannot touch the file of a later one.
    """
    return f".{name}.{secrets.token_hex(6)}.part"


def link(template: str, name: str) -> str:
    """The URL of a file: `{name}` in the template is replaced, or the name appended."""
    quoted = quote(name, safe="")
    if "{name}" in template:
        return template.replace("{name}", quoted)
    return f"{template.rstrip('/')}/{quoted}"


def require_length(found: int | None, sent_bytes: int) -> None:
    """Raise DestinationError unless the destination has as many bytes as were sent."""
    if found != sent_bytes:
        raise DestinationError("differs", f"{sent_bytes} bytes were sent, {found} are stored")


def not_installed(package: str) -> DestinationError:
    """The error for a missing client library."""
    return DestinationError(
        "not_installed",
        f"{package} is not installed: install dynamic-segments[destinations]",
        lasting=True,
    )
