"""Public keys that verify tokens (JWK Set, RFC 7517), from a file or an address, kept fresh.

The last good ones stay while newer ones cannot be had. Keys are fetched beside the requests; only
a request for which there is no key waits, and not for longer than one fetch.
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
FILE_LOOK_S = 1.0
_PRIVATE = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth"})
_KINDS: dict[str, type[RSAKey | ECKey]] = {"RSA": RSAKey, "EC": ECKey}

log = logs.get(__name__)


class NoKeysError(RuntimeError):
    """There are no keys to verify with; the message says why."""


def parse(raw: bytes) -> KeySet:
    """The keys of a set that can verify: public keys, RSA or EC. NoKeysError when there are none.

    A secret (`oct`) in it is left out: whoever can read the set could sign with it.
    """
    if len(raw) > MAX_BYTES:
        raise NoKeysError(f"more than {MAX_BYTES} bytes")
    try:
        document = orjson.loads(raw)
        given = document["keys"]
        if not isinstance(given, list) or len(given) > KEYS_MAX:
            raise NoKeysError(f"`keys` is a list of at most {KEYS_MAX}")
    except (orjson.JSONDecodeError, TypeError, KeyError):
        raise NoKeysError("not a JWK Set in JSON") from None
    keys: list[Key] = [key for each in given if (key := _key(each)) is not None]
    if not keys:
        raise NoKeysError("no public key of RSA or EC that is for signatures")
    return KeySet(keys)


def _key(given: Any) -> Key | None:
    if not isinstance(given, dict) or given.get("use", "sig") != "sig":
        return None
    kty = given.get("kty")
    kind = _KINDS.get(kty) if isinstance(kty, str) else None
    if kind is None:
        return None
    try:
        key: Key = kind.import_key({k: v for k, v in given.items() if k not in _PRIVATE})
    except (JoseError, ValueError, TypeError, KeyError):
        log.warning("a key of the JWK Set cannot be used", kid=str(given.get("kid"))[:64])
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
        # Of the newest attempt, and of the newest that worked.
        self._tried_at_s = self._had_at_s = -1e9
        self._stamp: tuple[int, int, int] | None = None
        self._told = ""

    async def start(self, changed: Callable[[], None]) -> None:
        """Get the keys for the first time; `changed` is called whenever they are others."""
        self._changed = changed
        if self._file is None:
            # Not packed: what comes shall be no larger than what is sent.
            self._client = httpx.AsyncClient(
                timeout=self._auth.jwks_timeout_s, headers={"Accept-Encoding": "identity"}
            )
            await self._fetched()
        else:
            self._read(self._file)

    async def close(self) -> None:
        """Fetch no more."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        if self._client is not None:
            await self._client.aclose()

    def look(self) -> None:
        """Begin to get the keys anew when it is time to; nothing is waited for."""
        now_s = time.monotonic()
        if self._file is not None:
            if now_s - self._tried_at_s >= FILE_LOOK_S:
                self._read(self._file)
        elif now_s - self._had_at_s >= self._auth.jwks_max_age_s and self._may_fetch(now_s):
            self._begin()

    async def keys(self) -> KeySet:
        """The keys. NoKeysError when there have never been any."""
        return self._set or await self.newer_keys()

    async def newer_keys(self) -> KeySet:
        """The keys, fetched anew if that may be done by now. NoKeysError as before."""
        if self._file is None:
            await self._fetched()
        if self._set is None:
            raise NoKeysError("there are no keys yet")
        return self._set

    def _may_fetch(self, now_s: float) -> bool:
        return now_s - self._tried_at_s >= self._auth.jwks_refetch_s

    def _begin(self) -> asyncio.Task[None]:
        if self._fetching is None or self._fetching.done():
            self._fetching = asyncio.create_task(self._fetch(), name="jwks")
        return self._fetching

    async def _fetched(self) -> None:
        """Wait for the fetch that is on its way, or for one more if that may be done by now."""
        under_way = self._fetching is not None and not self._fetching.done()
        if under_way or self._may_fetch(time.monotonic()):
            # Others wait for it as well: it goes on when this request is given up.
            await asyncio.shield(self._begin())

    async def _fetch(self) -> None:
        self._tried_at_s = time.monotonic()
        try:
            async with asyncio.timeout(self._auth.jwks_timeout_s):
                self._take(await self._download())
        except TimeoutError:
            self._failed(f"no answer within {self._auth.jwks_timeout_s:g} s")
        except (httpx.HTTPError, NoKeysError) as error:
            self._failed(str(error) or type(error).__name__)

    async def _download(self) -> bytes:
        assert self._client is not None, "it was started"
        raw = bytearray()
        async with self._client.stream("GET", str(self._auth.jwks_url)) as answer:
            if answer.status_code != httpx.codes.OK:
                raise NoKeysError(f"answered {answer.status_code}")
            async for chunk in answer.aiter_raw():
                raw += chunk
                if len(raw) > MAX_BYTES:
                    break
        return bytes(raw)

    def _read(self, path: Path) -> None:
        self._tried_at_s = time.monotonic()
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
            log.info("keys for tokens read", keys=len(self._set.keys), source=self._source())
        self._had_at_s, self._told = time.monotonic(), ""

    def _failed(self, reason: str) -> None:
        if reason != self._told:
            self._told = reason
            kept = 0 if self._set is None else len(self._set.keys)
            log.error(
                "keys for tokens cannot be had, the former stay",
                reason=reason,
                source=self._source(),
                keys=kept,
            )

    def _source(self) -> str:
        """The file, or the address without what may be a password in it."""
        if self._file is not None:
            return str(self._file)
        url = httpx.URL(str(self._auth.jwks_url))
        return f"{url.scheme}://{url.host}{url.path}"
