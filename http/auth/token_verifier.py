"""Verifies JSON Web Tokens (RFC 7519): their subject and role.

Follows RFC 8725: algorithms from a fixed list, each key only for algorithms of its own type, issuer
and audience required and checked, and tokens must expire.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from joserfc import jwt
from joserfc.errors import (
    ClaimError,
    ExpiredTokenError,
    InvalidKeyIdError,
    JoseError,
    MissingClaimError,
)
from joserfc.jwk import KeySet, OctKey
from joserfc.jws import JWSRegistry
from pydantic import TypeAdapter, ValidationError

from segments.contracts.names import Actor
from segments.http.auth.bearer import InvalidCredentialsError
from segments.http.auth.jwks import KeySource, NoKeysError
from segments.http.auth.roles import Role, Subject
from segments.http.problems import Problem
from segments.settings.auth import AuthSettings

CACHE_MAX = 4_096
"""Verified tokens that are cached."""
CACHE_TTL_S = 60.0
_NAME: TypeAdapter[str] = TypeAdapter(Actor)
# What the library still raises on malformed input: nesting, types, sizes.
_MALFORMED = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class TokenVerifier:
    """Verifies tokens with a secret, or with the keys of a JWK Set."""

    def __init__(self, auth: AuthSettings) -> None:
        self._auth = auth
        # Unknown headers are ignored, unless they are critical (`crit`).
        self._registry = JWSRegistry(
            algorithms=list(auth.accepted_algorithms()), strict_check_header=False
        )
        # Unencoded payloads (RFC 7797) are not accepted.
        del self._registry.header_registry["b64"]
        self._secret, self._source = None, None
        if auth.jwt_secret is not None:
            self._secret = OctKey.import_key(auth.jwt_secret.get_secret_value())
        else:
            self._source = KeySource(auth)
        self._claims = jwt.JWTClaimsRegistry(
            leeway=auth.leeway_s,
            iss={"essential": True, "value": auth.issuer or ""},
            aud={"essential": True, "value": auth.audience or ""},
            exp={"essential": auth.require_exp},
        )
        self._cache: dict[bytes, tuple[Subject, float]] = {}

    async def start(self) -> None:
        """Load the keys; if that fails, requests retry."""
        if self._source is not None:
            await self._source.start(self._cache.clear)

    async def close(self) -> None:
        """Stop fetching keys."""
        if self._source is not None:
            await self._source.close()

    async def verify(self, token: str) -> Subject:
        """The token's subject.

        InvalidCredentialsError if the token is invalid; Problem 503 while there are no keys.
        """
        if self._source is not None:
            self._source.refresh_if_due()
        token_hash = sha256(token.encode()).digest()
        cached = self._cache.get(token_hash)
        if cached is not None and time.time() < cached[1]:
            return cached[0]
        claims = await self._verified_claims(token)
        subject = self._subject(claims)
        self._remember(token_hash, subject, claims.get("exp"))
        return subject

    async def _verified_claims(self, token: str) -> dict[str, Any]:
        if self._secret is not None:
            return self._decode(token, self._secret)
        assert self._source is not None, "there is a secret or a source"
        try:
            try:
                return self._decode(token, await self._source.keys())
            except InvalidKeyIdError:
                # It may be signed with a key newer than those loaded.
                return self._decode(token, await self._source.newer_keys())
        except InvalidKeyIdError:
            raise InvalidCredentialsError("the token is signed with an unknown key") from None
        except NoKeysError:
            raise Problem(
                503,
                "keys_unavailable",
                "the keys that verify tokens are not available",
                headers={"Retry-After": "5"},
            ) from None

    def _decode(self, token: str, key: KeySet | OctKey) -> dict[str, Any]:
        """The validated claims.

        InvalidCredentialsError if the token is invalid; InvalidKeyIdError if its key is unknown.
        """
        try:
            claims = jwt.decode(token, key, registry=self._registry).claims
            self._claims.validate(claims)
        except InvalidKeyIdError:
            raise
        except ExpiredTokenError:
            raise InvalidCredentialsError("the token has expired") from None
        except MissingClaimError as error:
            raise InvalidCredentialsError(f"the token lacks {error.claim}") from None
        except ClaimError as error:
            raise InvalidCredentialsError(f"invalid claim: {error.claim}") from None
        except (JoseError, *_MALFORMED):
            raise InvalidCredentialsError("the token is invalid") from None
        return claims

    def _subject(self, claims: Mapping[str, Any]) -> Subject:
        name = claims.get(self._auth.subject_claim)
        try:
            name = _NAME.validate_python(name, strict=True)
        except ValidationError:
            detail = "the subject of the token does not have 1 to 128 characters"
            raise InvalidCredentialsError(detail) from None
        role = self._role(claims)
        if role is None:
            raise InvalidCredentialsError("the token has no known role")
        return Subject(name, role)

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        """The highest known role in the role claim; None if there is none."""
        value: Any = claims
        found = claims.get(self._auth.role_claim)
        if found is None:
            for step in self._auth.role_claim.split("."):
                value = value.get(step) if isinstance(value, Mapping) else None
            found = value
        names = found if isinstance(found, list) else [found]
        roles = {self._auth.roles.get(name) for name in names if isinstance(name, str)}
        for role in (Role.ADMIN, Role.ANALYST):
            if role in roles:
                return role
        return None

    def _remember(self, token_hash: bytes, subject: Subject, expires_s: Any) -> None:
        valid_until_s = time.time() + CACHE_TTL_S
        if expires_s is not None:
            valid_until_s = min(valid_until_s, expires_s + self._auth.leeway_s)
        if len(self._cache) >= CACHE_MAX:
            del self._cache[next(iter(self._cache))]
        self._cache[token_hash] = (subject, valid_until_s)
