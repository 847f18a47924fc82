"""Public keys that verify tokens (JWK Set, RFC 7517), from a file or URL, refreshed regularly.

While newer keys cannot be loaded, the last valid ones stay in use. Keys are fetched in the
background; only a request whose key is missing waits, for one fetch at most.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeySet, RSAKey

from segments.settings.auth import AuthSettings
from segments.telemetry import logs

MAX_BYTES = 1_048_576
KEYS_MAX = 1_000
FILE_CHECK_S = 1.0
_PRIVATE_MEMBERS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_KEY_TYPES: dict[str, type[RSAKey | ECKey]] = {"RSA": RSAKey, "EC": ECKey}

log = logs.get(__name__)


class NoKeysError(RuntimeError):
    """No keys are available for verification; the message says why."""


def parse(raw: bytes) -> KeySet:
    """The RSA and EC public keys of a JWK Set. NoKeysError if there are none.

    Symmetric keys (`oct`) are ignored: anyone who can read the set could sign with them.
    """
    if len(raw) > MAX_BYTES:
        raise NoKeysError(f"more than {MAX_BYTES} bytes")
    try:
        document = orjson.loads(raw)
        members = document["keys"]
        if not isinstance(members, list) or len(members) > KEYS_MAX:
            raise NoKeysError(f"`keys` must be a list of at most {KEYS_MAX}")
    except (orjson.JSONDecodeError, TypeError, KeyError):
        raise NoKeysError("not a JSON Web Key Set") from None
    keys: list[Key] = [key for member in members if (key := _key(member)) is not None]
    if not keys:
        raise NoKeysError("no RSA or EC public key for signatures")
    return KeySet(keys)


def _key(member: Any) -> Key | None:
    if not isinstance(member, dict) or member.get("use", "sig") != "sig":
        return None
    kty = member.get("kty")
    key_type = _KEY_TYPES.get(kty) if isinstance(kty, str) else None
    if key_type is None:
        return None
    try:
        key: Key = key_type.import_key(
            {k: v for k, v in member.items() if k not in _PRIVATE_MEMBERS}
        )
    except (JoseError, ValueError, TypeError, KeyError):
        log.warning("jwk_ignored", kid=str(member.get("kid"))[:64])
        return None
    return key


class KeySource:
    """The keys of `auth.jwks_file` or `auth.jwks_url`."""

    def __init__(self, auth: AuthSettings) -> None:
        self._auth = auth
        self._file = auth.jwks_file
        self._set: KeySet | None = None
        self._raw = b""
        self._changed: Callable[[], None] = lambda: None
        self._client: httpx.AsyncClient | None = None
        self._fetching: asyncio.Task[None] | None = None
        # Monotonic times of the last attempt and of the last success.
        self._attempt_at_s = self._success_at_s = -1e9
        self._stamp: tuple[int, int, int] | None = None
        self._logged_reason = ""

    async def start(self, changed: Callable[[], None]) -> None:
        """Load the keys; `changed` is called whenever they change."""
        self._changed = changed
        if self._file is None:
            # Uncompressed, so that the size limit holds for what is received.
            self._client = httpx.AsyncClient(
                timeout=self._auth.jwks_timeout_s, headers={"Accept-Encoding": "identity"}
            )
            await self._wait_for_fetch()
        else:
            self._read(self._file)

    async def close(self) -> None:
        """Stop fetching."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        if self._client is not None:
            await self._client.aclose()

    def refresh_if_due(self) -> None:
        """Start reloading the keys if they are due for it; does not wait."""
        now_s = time.monotonic()
        if self._file is not None:
            if now_s - self._attempt_at_s >= FILE_CHECK_S:
                self._read(self._file)
        elif now_s - self._success_at_s >= self._auth.jwks_max_age_s and self._may_fetch(now_s):
            self._start_fetch()

    async def keys(self) -> KeySet:
        """The current keys. NoKeysError if none were ever loaded."""
        return self._set or await self.newer_keys()

    async def newer_keys(self) -> KeySet:
        """The keys, reloaded if the minimum interval allows it. NoKeysError as for `keys`."""
        if self._file is None:
            await self._wait_for_fetch()
        if self._set is None:
            raise NoKeysError("no keys have been loaded yet")
        return self._set

    def _may_fetch(self, now_s: float) -> bool:
        return now_s - self._attempt_at_s >= self._auth.jwks_refetch_s

    def _start_fetch(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch(), name="jwks")
        return self._fetching

    async def _wait_for_fetch(self) -> None:
        """Wait for the fetch in progress, or for a new one if the minimum interval allows it."""
        in_progress = self._fetching is not None and not self._fetching.done()
        if in_progress or self._may_fetch(time.monotonic()):
            # Shared with other requests: it continues if this one is cancelled.
            await asyncio.shield(self._start_fetch())

    async def _fetch(self) -> None:
        self._attempt_at_s = time.monotonic()
        try:
            async with asyncio.timeout(self._auth.jwks_timeout_s):
                self._take(await self._download())
        except TimeoutError:
            self._failed(f"no response within {self._auth.jwks_timeout_s:g} s")
        except (httpx.HTTPError, NoKeysError) as error:
            self._failed(str(error) or type(error).__name__)

    async def _download(self) -> bytes:
        assert self._client is not None, "started"
        raw = bytearray()
        async with self._client.stream("GET", str(self._auth.jwks_url)) as response:
            if response.status_code != httpx.codes.OK:
                raise NoKeysError(f"status {response.status_code}")
            async for chunk in response.aiter_raw():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    break
        return bytes(raw)

    def _read(self, path: Path) -> None:
        self._attempt_at_s = time.monotonic()
        try:
            found = path.stat()
            stamp = found.st_mtime_ns, found.st_ino, found.st_size
            if stamp == self._stamp:
                return
            with path.open("rb") as file:
                self._take(file.read(MAX_BYTES + 1))
            self._stamp = stamp
        except OSError as error:
            self._failed(error.strerror or type(error).__name__)
        except NoKeysError as error:
            self._failed(str(error))

    def _take(self, raw: bytes) -> None:
        if raw != self._raw:
            self._set = parse(raw)
            self._raw = raw
            self._changed()
            log.info("jwks_loaded", keys=len(self._set.keys), source=self._source())
        self._success_at_s, self._logged_reason = time.monotonic(), ""

    def _failed(self, reason: str) -> None:
        if reason != self._logged_reason:
            self._logged_reason = reason
            kept = 0 if self._set is None else len(self._set.keys)
            log.error(
                "jwks_unavailable",
                reason=reason,
                source=self._source(),
                keys_kept=kept,
            )

    def _source(self) -> str:
        """The file, or the URL without user info and query, which may contain secrets."""
        if self._file is not None:
            return str(self._file)
        url = httpx.URL(str(self._auth.jwks_url))
        return f"{url.scheme}://{url.host}{url.path}"
