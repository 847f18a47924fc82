"""Verifies API keys; reloads their file when it changes and keeps the last valid keys."""

from __future__ import annotations

import hmac
import time
from pathlib import Path

from segments.contracts import times
from segments.http.auth.api_keys import PATTERN, Key, KeysError, digest, load, path_of
from segments.http.auth.bearer import InvalidCredentialsError
from segments.http.auth.roles import Role, Subject
from segments.settings import Settings
from segments.telemetry import logs

CHECK_INTERVAL_S = 1.0
"""How long it takes at most for a created or revoked key to take effect."""
_UNKNOWN_KEY = (b"\0" * 32, None, Subject("", Role.OPEN))

log = logs.get(__name__)

_Entry = tuple[bytes, int | None, Subject]
_Stamp = tuple[int, int, int] | None


class KeyVerifier:
    """Verifies API keys. Unknown, revoked and expired keys get the same response."""

    def __init__(self, settings: Settings) -> None:
        self._path = path_of(settings)
        self._entries: dict[str, _Entry] = {}
        self._stamp: _Stamp = None
        self._checked_at_s = 0.0
        self._logged_reason = ""

    async def start(self) -> None:
        """Load the keys. KeysError if there is a file that is not a key file."""
        self._checked_at_s = time.monotonic()
        self._stamp = _stamp(self._path)
        self._set_keys(load(self._path))
        if not self._entries:
            log.warning("no_api_keys", file=str(self._path), hint="run 'segments keys create'")

    async def close(self) -> None:
        """Nothing to release."""

    async def verify(self, token: str) -> Subject:
        """The key's subject. InvalidCredentialsError if the key is unknown, revoked or expired."""
        if time.monotonic() - self._checked_at_s >= CHECK_INTERVAL_S:
            self._reload_if_changed()
        match = PATTERN.fullmatch(token)
        stored, expires_ms, subject = self._entries.get(match[1] if match else "", _UNKNOWN_KEY)
        same = hmac.compare_digest(digest(token), stored)
        expired = expires_ms is not None and expires_ms <= times.now_ms()
        if not same or expired:
            raise InvalidCredentialsError("the API key is unknown, revoked or expired")
        return subject

    def _reload_if_changed(self) -> None:
        """Load the file if it has changed; retried at the next check if that fails."""
        self._checked_at_s = time.monotonic()
        stamp = _stamp(self._path)
        if stamp == self._stamp:
            return
        try:
            self._set_keys(load(self._path, missing_ok=False))
        except KeysError as error:
            if str(error) != self._logged_reason:
                self._logged_reason = str(error)
                log.error("api_keys_unreadable", reason=str(error), keys_kept=len(self._entries))  # noqa: TRY400
        else:
            self._stamp, self._logged_reason = stamp, ""

    def _set_keys(self, keys: list[Key]) -> None:
        self._entries = {
            key.id: (
                bytes.fromhex(key.sha256),
                key.expires_ms,
                Subject(key.name, Role(key.role), key.id),
            )
            for key in keys
        }
        log.info("api_keys_loaded", keys=len(keys))


def _stamp(path: Path) -> _Stamp:
    """A value that changes whenever the file does; None if the file is missing or unreadable."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size
