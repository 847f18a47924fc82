"""Authentication and authorization of the HTTP interface: the section `auth`."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from segments.settings.sections import Section

SECRET_MIN_LENGTH = 32
"""Of a signing secret, in characters: at least the output size of SHA-256 (RFC 7518, 3.2)."""
ALLOW_INSECURE = "anyone who reaches it may do everything"

Algorithm = Literal["HS256", "RS256", "ES256"]


class AuthSettings(Section):
    """Authentication and authorization of the HTTP interface.

    Mode `jwt` needs a key: one of `auth.jwt_secret`, `auth.jwks_file` and `auth.jwks_url`.
    """

    mode: Literal["none", "keys", "jwt"] = Field(
        "none", description="no authentication, API keys, or JSON Web Tokens"
    )
    allow_insecure: Literal["anyone who reaches it may do everything"] | None = Field(
        None, description="allows the sidecar to listen beyond loopback with `auth.mode` none"
    )
    metrics: Literal["open", "analyst", "admin"] = Field(
        "open", description="role required to read `/metrics` of the sidecar; `open` = none"
    )
    keys_file: Path | None = Field(
        None, description="file with the hashed API keys; none = `keys.json` in `data_dir`"
    )
    link_secret: SecretStr | None = Field(
        None,
        min_length=SECRET_MIN_LENGTH,
        description="signs report links; the same for all sidecars; none = generated in `data_dir`",
    )
    link_ttl_s: int = Field(86_400, ge=1, le=366 * 86_400, description="validity of a report link")
    jwt_secret: SecretStr | None = Field(
        None, min_length=SECRET_MIN_LENGTH, description="verifies tokens signed with HS256"
    )
    jwks_file: Path | None = Field(
        None, description="file with public keys that verify tokens (RFC 7517); reloaded on change"
    )
    jwks_url: str | None = Field(None, description="URL from which such keys are fetched, as JSON")
    jwks_max_age_s: float = Field(
        600.0, ge=1, description="age at which keys are fetched again in the background"
    )
    jwks_refetch_s: float = Field(
        30.0, ge=0.1, description="minimum interval between fetches, also for an unknown key id"
    )
    jwks_timeout_s: float = Field(5.0, gt=0, le=60, description="timeout of a complete fetch")
    algorithms: list[Algorithm] | None = Field(
        None,
        min_length=1,
        description="accepted signature algorithms: a JSON list; "
        "none = HS256 with `auth.jwt_secret`, RS256 and ES256 with keys",
    )
    issuer: str | None = Field(None, min_length=1, description="required `iss` of a token")
    audience: str | None = Field(
        None, min_length=1, description="value that `aud` of a token must contain"
    )
    leeway_s: int = Field(
        30, ge=0, le=600, description="tolerated clock difference for `exp` and `nbf`"
    )
    require_exp: bool = Field(default=True, description="whether a token without `exp` is rejected")
    subject_claim: str = Field(
        "sub", min_length=1, description="claim with the name of the client, its `actor`"
    )
    role_claim: str = Field(
        "role",
        min_length=1,
        description="claim with the role, or a list of roles; dots address nested objects",
    )
    roles: dict[str, Literal["admin", "analyst"]] = Field(
        default={"admin": "admin", "analyst": "analyst"},
        description="value of the claim -> role: a JSON object",
    )

    @field_validator("keys_file", "jwks_file")
    @classmethod
    def _absolute(cls, value: Path | None) -> Path | None:
        return None if value is None else value.expanduser().absolute()

    @field_validator("jwt_secret")
    @classmethod
    def _no_public_key(cls, value: SecretStr | None) -> SecretStr | None:
        # Anyone who can read a public key could sign with it.
        if value is not None and "-----BEGIN" in value.get_secret_value():
            raise ValueError("a public key is not a secret: put it into jwks_file, as a JWK Set")
        return value

    @field_validator("jwks_url")
    @classmethod
    def _secure_url(cls, value: str | None) -> str | None:
        if value is not None:
            parts = urlsplit(value)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError("a URL begins with https:// or http://")
            if parts.scheme == "http" and not is_loopback(parts.hostname):
                raise ValueError(
                    "keys must be fetched over https: over http they could be tampered with"
                )
        return value

    @model_validator(mode="after")
    def _complete_for_jwt(self) -> AuthSettings:
        if self.mode != "jwt":
            return self
        keys = [self.jwt_secret, self.jwks_file, self.jwks_url]
        if sum(each is not None for each in keys) != 1:
            raise ValueError("mode jwt needs exactly one of jwt_secret, jwks_file and jwks_url")
        if (self.jwt_secret is not None) != ("HS256" in self.accepted_algorithms()):
            raise ValueError("HS256 requires jwt_secret: it is never verified with a public key")
        if len(set(self.accepted_algorithms())) > 1 and self.jwt_secret is not None:
            raise ValueError("with jwt_secret only HS256 is accepted")
        if self.issuer is None or self.audience is None:
            raise ValueError(
                "mode jwt needs issuer and audience: otherwise tokens for other services are valid"
            )
        return self

    def accepted_algorithms(self) -> list[Algorithm]:
        """The accepted signature algorithms in mode jwt."""
        if self.algorithms is not None:
            return self.algorithms
        return ["RS256", "ES256"] if self.jwt_secret is None else ["HS256"]


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only. Names are not resolved."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class ExposedError(RuntimeError):
    """The sidecar must not listen on this address; the message says why and how to fix it."""


def require_guard(auth: AuthSettings, host: str) -> None:
    """Raise ExposedError when the sidecar would be open to other machines by mistake."""
    if auth.mode != "none" or auth.allow_insecure is not None or is_loopback(host):
        return
    raise ExposedError(
        f"http.host is {host or 'every address'}, and auth.mode is none: anyone who reaches the "
        "sidecar could do everything. Set auth.mode to keys or jwt, or http.host to 127.0.0.1, "
        f"or allow it explicitly: SEGMENTS_AUTH__ALLOW_INSECURE='{ALLOW_INSECURE}'"
    )
