"""Signed links: URLs of reports that work without credentials until they expire."""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlencode

from itsdangerous import Signer
from multidict import MultiMapping

from segments.http.auth.api_keys import KeysError
from segments.http.problems import Problem
from segments.process import private_files
from segments.settings import Settings

EXPIRES, SIGNATURE = "expires", "signature"
"""Query parameters that a signed link adds to those of the report."""
_SECRET_BYTES = 32
_SECRET_FILE = "link.key"  # noqa: S105 - a file name
_SALT = b"segments report link"


class LinkSigner:
    """Signs and checks links. A new secret invalidates every link signed with the old one."""

    def __init__(self, secret: str, ttl_s: int) -> None:
        self._signer = Signer(secret, _SALT, key_derivation="hmac", digest_method=sha256)
        self._ttl_s = ttl_s

    def sign(self, path: str, query: Mapping[str, str]) -> dict[str, str]:
        """The query of a link to this path with exactly these parameters, valid from now on."""
        full = {**query, EXPIRES: str(int(time.time()) + self._ttl_s)}
        return {**full, SIGNATURE: self._signer.get_signature(_text(path, full.items())).decode()}

    def check(self, path: str, query: MultiMapping[str]) -> None:
        """Problem 403 `link_invalid` or `link_expired` unless the link is valid.

        `link_expired` only if the signature is valid.
        """
        plain = [(name, value) for name, value in query.items() if name != SIGNATURE]
        signatures = query.getall(SIGNATURE, [])
        expected = self._signer.get_signature(_text(path, plain))
        # Compare the text: different texts may decode to the same bytes in the last character.
        signature = signatures[0].encode() if len(signatures) == 1 else b""
        if not hmac.compare_digest(expected, signature):
            raise Problem(403, "link_invalid", "the signature of the link is invalid")
        if int(query[EXPIRES]) <= time.time():
            raise Problem(403, "link_expired", "the link has expired: request a new one")


def is_signed(query: MultiMapping[str]) -> bool:
    """Whether a request uses a signed link, valid or not."""
    return SIGNATURE in query


def _text(path: str, query: Iterable[tuple[str, str]]) -> bytes:
    """The signed text; independent of the order of the parameters."""
    return f"{path}?{urlencode(sorted(query))}".encode()


def create_link_signer(settings: Settings) -> LinkSigner:
    """A signer with `auth.link_secret`, or with a generated secret kept in `data_dir`."""
    configured = settings.auth.link_secret
    if configured is None:
        secret = _stored_secret(settings.data_dir / _SECRET_FILE)
    else:
        secret = configured.get_secret_value()
    return LinkSigner(secret, settings.auth.link_ttl_s)


def _stored_secret(path: Path) -> str:
    """The secret in this file, generated if the file is missing. KeysError if it has none."""
    if not path.exists():
        private_files.write_once(path, secrets.token_hex(_SECRET_BYTES).encode())
    secret = path.read_text(encoding="ascii").strip()
    if len(secret) < 2 * _SECRET_BYTES:
        raise KeysError(f"{path} has no secret of {2 * _SECRET_BYTES} characters: remove it")
    return secret
