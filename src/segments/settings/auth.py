"""Who may use the HTTP interface: the section `auth`."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from segments.settings.sections import Section

SECRET_MIN_LENGTH = 32
"""Of a secret that signs: as long as the output of SHA-256 (RFC 7518 3.2)."""
ALLOW_INSECURE = "anyone who reaches it may do everything"

Algorithm = Literal["HS256", "RS256", "ES256"]


class AuthSettings(Section):
    """Who may use the HTTP interface, and how clients show who they are.

    Settings of `jwt` begin with its key: `auth.jwt_secret`, `auth.jwks_file` or `auth.jwks_url`.
    """

    mode: Literal["none", "keys", "jwt"] = Field(
        "none", description="nobody is asked, API keys, or JSON Web Tokens"
    )
    allow_insecure: Literal["anyone who reaches it may do everything"] | None = Field(
        None, description="lets the sidecar listen beyond loopback with `auth.mode` none"
    )
    metrics: Literal["open", "analyst", "admin"] = Field(
        "open", description="who may read `/metrics` of the sidecar"
    )
    keys_file: Path | None = Field(
        None, description="where API keys are kept, hashed; none = `keys.json` in `data_dir`"
    )
    link_secret: SecretStr | None = Field(
        None,
        min_length=SECRET_MIN_LENGTH,
        description="signs report links, the same for all sidecars; none = one kept in `data_dir`",
    )
    link_ttl_s: int = Field(
        86_400, ge=1, le=366 * 86_400, description="how long a report link can be opened"
    )
    jwt_secret: SecretStr | None = Field(
        None, min_length=SECRET_MIN_LENGTH, description="verifies tokens signed with HS256"
    )
    jwks_file: Path | None = Field(
        None, description="public keys that verify tokens (RFC 7517); read again when it changes"
    )
    jwks_url: str | None = Field(None, description="where such keys are fetched, as JSON")
    jwks_max_age_s: float = Field(
        600.0, ge=1, description="keys older than this are fetched again, beside the requests"
    )
    jwks_refetch_s: float = Field(
        30.0, ge=0.1, description="shortest time between fetches, also for an unknown key id"
    )
    jwks_timeout_s: float = Field(5.0, gt=0, le=60, description="longest wait for a whole fetch")
    algorithms: list[Algorithm] | None = Field(
        None,
        min_length=1,
        description="signatures that are accepted: a JSON list; "
        "none = HS256 with `auth.jwt_secret`, RS256 and ES256 with keys",
    )
    issuer: str | None = Field(None, min_length=1, description="what `iss` of a token must be")
    audience: str | None = Field(None, min_length=1, description="what `aud` of a token must name")
    leeway_s: int = Field(
        30, ge=0, le=600, description="difference of clocks that is tolerated in `exp` and `nbf`"
    )
    require_exp: bool = Field(default=True, description="whether a token without `exp` is refused")
    subject_claim: str = Field(
        "sub", min_length=1, description="claim with the name of the client: its `actor`"
    )
    role_claim: str = Field(
        "role", min_length=1, description="claim with the role, or a list; dots lead into objects"
    )
    roles: dict[str, Literal["admin", "analyst"]] = Field(
        default={"admin": "admin", "analyst": "analyst"},
        description="the claim's word for a role -> ours: a JSON object",
    )

    @field_validator("keys_file", "jwks_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("jwt_secret")
    @classmethod
    def _no_public_key(cls, value: SecretStr | None) -> SecretStr | None:
        # Whoever can read it could sign with it.
        if value is not None and "-----BEGIN" in value.get_secret_value():
            raise ValueError("a public key is no secret: put it, as a JWK Set, into jwks_file")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _an_address(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("an address begins with https:// or http://")
            if parts.scheme == "http" and not is_loopback(parts.hostname):
                raise ValueError("keys are fetched over https: over http anybody could change them")
        return value

    @model_validator(mode="after")
    def _enough_for_jwt(self) -> AuthSettings:
        if self.mode != "jwt":
            return self
        given = [self.jwt_secret, self.jwks_file, self.jwks_url]
        if sum(each is not None for each in given) != 1:
            raise ValueError("mode jwt takes one of jwt_secret, jwks_file and jwks_url")
        if (self.jwt_secret is not None) != ("HS256" in self.accepted_algorithms()):
            raise ValueError("HS256 goes with jwt_secret: no public key ever verifies it")
        if len(set(self.accepted_algorithms())) > 1 and self.jwt_secret is not None:
            raise ValueError("a secret verifies HS256 alone")
        if self.issuer is None or self.audience is None:
            raise ValueError("mode jwt takes issuer and audience: else tokens for others are good")
        return self

    def accepted_algorithms(self) -> list[Algorithm]:
        """The signatures of tokens that are accepted, in mode jwt."""
        if self.algorithms is not None:
            return self.algorithms
        return ["RS256", "ES256"] if self.jwt_secret is None else ["HS256"]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. A name is not looked up."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class ExposedError(RuntimeError):
    """The sidecar must not listen where it is told to; the message says why and what to do."""


def require_guard(auth: AuthSettings, host: str) -> None:
    """ExposedError where anyone could come in from elsewhere, and nobody has said so in words."""
    if auth.mode != "none" or auth.allow_insecure is not None or is_loopback(host):
        return
    raise ExposedError(
        f"http.host is {host or 'every address'}, and auth.mode is none: anyone who reaches the "
        "sidecar could do everything. Set auth.mode to keys or jwt, or http.host to 127.0.0.1; "
        f"or say so in words: SEGMENTS_AUTH__ALLOW_INSECURE='{ALLOW_INSECURE}'"
    )
