"""API keys and tokens for tests, valid and invalid."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

from segments.http.auth import api_keys

SECRET = "a secret of the tests, long enough to sign"
ISSUER, AUDIENCE = "https://issuer.example", "segments"
JWT: dict[str, Any] = {
    "mode": "jwt",
    "jwt_secret": SECRET,
    "issuer": ISSUER,
    "audience": AUDIENCE,
}
"""Settings of `auth` for tokens that are signed with the secret."""
KEYS: dict[str, Any] = {"mode": "keys"}


def header(credential: str | None) -> dict[str, str]:
    """The Authorization header with this credential."""
    return {} if credential is None else {"Authorization": f"Bearer {credential}"}


def api_key(folder: Path, role: Any = "admin", name: str = "ops", **fields: Any) -> str:
    """Create a key in the key file of this data folder; returns it in clear."""
    now_ms = time.time_ns() // 1_000_000
    options = {"now_ms": now_ms, "expires_ms": None} | fields
    return api_keys.create(folder / "keys.json", name, role, **options)[0]


def revoked_key(folder: Path, role: Any = "admin") -> str:
    """A key that has been revoked."""
    clear = api_key(folder, role, name="gone")
    api_keys.revoke(folder / "keys.json", "gone")
    return clear


def forged(credential: str) -> str:
    """The credential with one character changed in the middle of its last part."""
    place = (credential.rindex("." if "." in credential else "_") + len(credential)) // 2
    other = "a" if credential[place] != "a" else "b"
    return credential[:place] + other + credential[place + 1 :]


def claims(**others: Any) -> dict[str, Any]:
    """Claims of a valid token; None removes one."""
    now_s = int(time.time())
    all_claims = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "shop",
        "role": "admin",
        "iat": now_s,
        "exp": now_s + 600,
    } | others
    return {name: value for name, value in all_claims.items() if value is not None}


def token(key: Key | str = SECRET, *, header: dict[str, Any] | None = None, **others: Any) -> str:
    """A signed token with valid claims, some of them replaced."""
    signing = OctKey.import_key(key) if isinstance(key, str) else key
    algorithm = {"oct": "HS256", "RSA": "RS256", "EC": "ES256"}[signing.key_type]
    if isinstance(signing, RSAKey | ECKey) and signing.kid is not None:
        header = {"kid": signing.kid} | (header or {})
    return jwt.encode({"alg": algorithm} | (header or {}), claims(**others), signing, [algorithm])
