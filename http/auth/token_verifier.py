"""JSON Web Tokens (RFC 7519): whose they are, and with which role.

What RFC 8725 asks for: the algorithms are a list of ours, a key is good for those of its own kind
alone, issuer and audience must be the expected ones, and a token ends.
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
from segments.http.auth.bearer import Refused
from segments.http.auth.jwks import KeySource, NoKeysError
from segments.http.auth.roles import Role, Subject
from segments.http.problems import Problem
from segments.settings.auth import AuthSettings

REMEMBERED = 4_096
"""Tokens that were verified and need not be again, for a while."""
REMEMBERED_S = 60.0
_NAME: TypeAdapter[str] = TypeAdapter(Actor)
# What a library for untrusted input may still raise on it: nesting, types, sizes.
_BROKEN = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)


class TokenVerifier:
    """Verifies tokens with a secret, or with keys that are looked after."""

    def __init__(self, auth: AuthSettings) -> None:
        self._auth = auth
        # Headers that mean nothing here are let through, unless they must be understood.
        self._registry = JWSRegistry(
            algorithms=list(auth.accepted_algorithms()), strict_check_header=False
        )
        # A token whose payload is not encoded (RFC 7797) is none.
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
        self._remembered: dict[bytes, tuple[Subject, float]] = {}

    async def start(self) -> None:
        """Get the keys; when they cannot be had, requests will ask for them again."""
        if self._source is not None:
            await self._source.start(self._remembered.clear)

    async def close(self) -> None:
        """Fetch no more."""
        if self._source is not None:
            await self._source.close()

    async def verify(self, token: str) -> Subject:
        """Whose token it is. Refused when it is not good; Problem 503 while there are no keys."""
        if self._source is not None:
            self._source.look()
        mark = sha256(token.encode()).digest()
        remembered = self._remembered.get(mark)
        if remembered is not None and time.time() < remembered[1]:
            return remembered[0]
        claims = await self._verified(token)
        subject = self._subject(claims)
        self._remember(mark, subject, claims.get("exp"))
        return subject

    async def _verified(self, token: str) -> dict[str, Any]:
        if self._secret is not None:
            return self._decoded(token, self._secret)
        assert self._source is not None, "a secret or a source is there"
        try:
            try:
                return self._decoded(token, await self._source.keys())
            except InvalidKeyIdError:
                # Perhaps signed with a key that is newer than ours.
                return self._decoded(token, await self._source.newer_keys())
        except InvalidKeyIdError:
            raise Refused("the token is signed with an unknown key") from None
        except NoKeysError:
            raise Problem(
                503,
                "keys_unavailable",
                "the keys that verify tokens cannot be had",
                headers={"Retry-After": "5"},
            ) from None

    def _decoded(self, token: str, key: KeySet | OctKey) -> dict[str, Any]:
        """The claims, all checked. Refused, or InvalidKeyIdError for a key that is not there."""
        try:
            claims = jwt.decode(token, key, registry=self._registry).claims
            self._claims.validate(claims)
        except InvalidKeyIdError:
            raise
        except ExpiredTokenError:
            raise Refused("the token has expired") from None
        except MissingClaimError as error:
            raise Refused(f"the token lacks {error.claim}") from None
        except ClaimError as error:
            raise Refused(f"the token is not good here: {error.claim}") from None
        except (JoseError, *_BROKEN):
            raise Refused("the token is not good") from None
        return claims

    def _subject(self, claims: Mapping[str, Any]) -> Subject:
        name = claims.get(self._auth.subject_claim)
        try:
            name = _NAME.validate_python(name, strict=True)
        except ValidationError:
            raise Refused("the token names no subject of 1 to 128 characters") from None
        role = self._role(claims)
        if role is None:
            raise Refused("the token gives no role that is known here")
        return Subject(name, role)

    def _role(self, claims: Mapping[str, Any]) -> Role | None:
        """The highest of the roles that the claim gives; None for none that is known."""
        value: Any = claims
        found = claims.get(self._auth.role_claim)
        if found is None:
            for step in self._auth.role_claim.split("."):
                value = value.get(step) if isinstance(value, Mapping) else None
            found = value
        words = found if isinstance(found, list) else [found]
        roles = {self._auth.roles.get(word) for word in words if isinstance(word, str)}
        for role in (Role.ADMIN, Role.ANALYST):
            if role in roles:
                return role
        return None

    def _remember(self, mark: bytes, subject: Subject, expires_s: Any) -> None:
        until_s = time.time() + REMEMBERED_S
        if expires_s is not None:
            until_s = min(until_s, expires_s + self._auth.leeway_s)
        if len(self._remembered) >= REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[mark] = (subject, until_s)
