"""API keys of a running sidecar: read again when their file changes, the last good ones kept."""

from __future__ import annotations

import hmac
import time
from pathlib import Path

from segments.contracts import times
from segments.http.auth.api_keys import PATTERN, Key, KeysError, digest, load, path_of
from segments.http.auth.bearer import Refused
from segments.http.auth.roles import Role, Subject
from segments.settings import Settings
from segments.telemetry import logs

LOOK_INTERVAL_S = 1.0
"""How long a key that was made or revoked may wait to be seen."""
_NOBODY = (b"\0" * 32, None, Subject("", Role.OPEN))

log = logs.get(__name__)

_Entry = tuple[bytes, int | None, Subject]
_Stamp = tuple[int, int, int] | None


class KeyRing:
    """Verifies API keys. An unknown, a revoked and an expired one are refused alike."""

    def __init__(self, settings: Settings) -> None:
        self._path = path_of(settings)
        self._entries: dict[str, _Entry] = {}
        self._stamp: _Stamp = None
        self._looked_at_s = 0.0
        self._told = ""

    async def start(self) -> None:
        """Read the keys. KeysError when there is a file that is none of ours."""
        self._looked_at_s = time.monotonic()
        self._stamp = _stamp(self._path)
        self._take(load(self._path))
        if not self._entries:
            log.warning("nobody has an API key: segments keys create", file=str(self._path))

    async def close(self) -> None:
        """Nothing is held."""

    async def verify(self, token: str) -> Subject:
        """Whose key it is. Refused when it is none, or no longer."""
        if time.monotonic() - self._looked_at_s >= LOOK_INTERVAL_S:
            self._look()
        match = PATTERN.fullmatch(token)
        stored, expires_ms, subject = self._entries.get(match[1] if match else "", _NOBODY)
        same = hmac.compare_digest(digest(token), stored)
        expired = expires_ms is not None and expires_ms <= times.now_ms()
        if not same or expired:
            raise Refused("the API key is not known, or no longer")
        return subject

    def _look(self) -> None:
        """Take the file as it is now, if it has changed; tried again until that works."""
        self._looked_at_s = time.monotonic()
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._take(load(self._path, missing_ok=False))
        except KeysError as error:
            if str(error) != self._told:
                self._told = str(error)
                log.error("API keys cannot be read, the former stay", reason=self._told)  # noqa: TRY400
        else:
            self._stamp, self._told = stamp, ""

    def _take(self, keys: list[Key]) -> None:
        self._entries = {
            key.id: (
                bytes.fromhex(key.sha256),
                key.expires_ms,
                Subject(key.name, Role(key.role), key.id),
            )
            for key in keys
        }
        log.info("API keys read", keys=len(keys))


def _stamp(path: Path) -> _Stamp:
    """Changes whenever the file does; None when there is none that can be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
