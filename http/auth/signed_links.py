"""Signed links: a report opened by whoever has its link, for a while, without a header."""

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
PARAMETERS = (EXPIRES, SIGNATURE)
"""What a signed link has beside the parameters of the report."""
_SECRET_BYTES = 32
_SECRET_FILE = "link.key"  # noqa: S105 - its name
_SALT = b"segments report link"


class Links:
    """Signs and checks links. Another secret makes every link of the former one useless."""

    def __init__(self, secret: str, ttl_s: int) -> None:
        self._signer = Signer(secret, _SALT, key_derivation="hmac", digest_method=sha256)
        self._ttl_s = ttl_s

    def signed(self, path: str, query: Mapping[str, str]) -> dict[str, str]:
        """The query of a link that opens this path with just these parameters, from now on."""
        full = {**query, EXPIRES: str(int(time.time()) + self._ttl_s)}
        return {**full, SIGNATURE: self._signer.get_signature(_text(path, full.items())).decode()}

    def check(self, path: str, query: MultiMapping[str]) -> None:
        """Problem 403 `link_invalid` or `link_expired` unless the link is one of ours and good.

        Whether it has expired is told only of a link that is ours.
        """
        plain = [(name, value) for name, value in query.items() if name != SIGNATURE]
        given = query.getall(SIGNATURE, [])
        wanted = self._signer.get_signature(_text(path, plain))
        # The text, not what it decodes to: of a changed last character a bit may mean nothing.
        good = hmac.compare_digest(wanted, given[0].encode() if len(given) == 1 else b"")
        if not good:
            raise Problem(403, "link_invalid", "the link is not as it was given out")
        if int(query[EXPIRES]) <= time.time():
            raise Problem(403, "link_expired", "the link has expired: ask for another")


def is_signed(query: MultiMapping[str]) -> bool:
    """Whether a request came by a signed link, good or not."""
    return SIGNATURE in query


def _text(path: str, query: Iterable[tuple[str, str]]) -> bytes:
    """What is signed; the order of the parameters says nothing, each of them counts."""
    return f"{path}?{urlencode(sorted(query))}".encode()


def links(settings: Settings) -> Links:
    """The links of this deployment, signed with its secret."""
    given = settings.auth.link_secret
    secret = _kept(settings.data_dir / _SECRET_FILE) if given is None else given.get_secret_value()
    return Links(secret, settings.auth.link_ttl_s)


def _kept(path: Path) -> str:
    """The secret of this file, which is made when it is not there yet. KeysError for none."""
    if not path.exists():
        private_files.write_once(path, secrets.token_hex(_SECRET_BYTES).encode())
    secret = path.read_text(encoding="ascii").strip()
    if len(secret) < 2 * _SECRET_BYTES:
        raise KeysError(f"{path} holds no secret of {2 * _SECRET_BYTES} characters: remove it")
    return secret
