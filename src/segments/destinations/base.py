"""What a destination is: it takes a file in pieces and shows it under its name once it is whole."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Literal, NamedTuple, Protocol
from urllib.parse import quote

from segments.telemetry import logs

CLEANUP_S = 10.0
"""What is spent on taking a broken try away. It runs out where the destination is gone, too."""
UPLOAD_PIECE_BYTES = 8 * 1024 * 1024
"""What is held in memory and sent at once where a destination is written to in pieces."""
_DETAIL_MAX_LENGTH = 300

log = logs.get(__name__)

Code = Literal["unreachable", "refused", "full", "timeout", "differs", "failed", "not_installed"]


class DestinationError(Exception):
    """The file could not be put there; the message says why, in words for an operator.

    `lasting`: another try would end the same. `retry_after_s`: as the destination asked for.
    No secret is in the message.
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
    """What is to be put somewhere. `max_bytes`: it is surely not longer than that."""

    name: str
    max_bytes: int


class Stored(NamedTuple):
    """A file that is there. `url`: where it is reached; until `expires_ms` if that is given."""

    url: str
    expires_ms: int | None = None


Remember = Callable[[str], Awaitable[None]]
"""Writes down what is begun, so that `discard` can take it away after a crash."""


class Upload(Protocol):
    """One try: written, closed, finished. Left without `finish`, it is taken away."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes. DestinationError."""

    async def close(self) -> None:
        """Send what was held back; nothing more is written. DestinationError."""

    async def finish(self, sent_bytes: int) -> Stored:
        """Show the file under its name, once it is proved to have this length. DestinationError."""


class Destination(Protocol):
    """A place for files."""

    def open_upload(self, file: File, remember: Remember) -> AbstractAsyncContextManager[Upload]:
        """Begin a try. DestinationError, also at its end, where it failed."""

    async def discard(self, leftover: str) -> None:
        """Take away what an earlier try remembered, if it is still there. DestinationError."""


async def clean_up(work: Awaitable[None]) -> None:
    """Do this after a try that failed, whose own error matters more than what goes wrong here."""
    try:
        async with asyncio.timeout(CLEANUP_S):
            await work
    except Exception as error:  # noqa: BLE001 - the next try does it
        log.warning("upload_cleanup_failed", error=type(error).__name__)


def part_name(name: str) -> str:
    """A name for a file that is not whole yet, another one each time.

    Whatever of an earlier try still moves has no hold on a later one.
    """
    return f".{name}.{secrets.token_hex(6)}.part"


def link(template: str, name: str) -> str:
    """The URL of a file: `{name}` of the template replaced, or the name put behind it."""
    quoted = quote(name, safe="")
    if "{name}" in template:
        return template.replace("{name}", quoted)
    return f"{template.rstrip('/')}/{quoted}"


def require_length(found: int | None, sent_bytes: int) -> None:
    """DestinationError unless the destination has as many bytes as were sent."""
    if found != sent_bytes:
        raise DestinationError("differs", f"{sent_bytes} bytes were sent, {found} are there")


def not_installed(package: str) -> DestinationError:
    """The library that speaks to this kind of destination is missing."""
    return DestinationError(
        "not_installed",
        f"{package} is not installed: install dynamic-segments[destinations]",
        lasting=True,
    )
