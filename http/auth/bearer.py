"""Bearer authentication (RFC 6750): tokens in requests, and the responses to invalid ones."""

from __future__ import annotations

import re
from typing import Protocol

from aiohttp import web

from segments.http.auth.roles import Role, Subject
from segments.http.problems import Problem

_CHALLENGE = 'Bearer realm="segments"'
_CHALLENGE_HEADER = "WWW-Authenticate"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
_SCHEME = "bearer"


class InvalidCredentialsError(Exception):
    """An invalid token. The message goes to the client: no quotes, no secrets."""


class Verifier(Protocol):
    """Verifies bearer tokens."""

    async def verify(self, token: str) -> Subject:
        """The token's subject.

        InvalidCredentialsError if it is invalid; Problem 503 if it cannot be verified now.
        """
        ...

    async def start(self) -> None:
        """Load the keys; `verify` waits for those that are not available yet."""
        ...

    async def close(self) -> None:
        """Release what `start` acquired."""
        ...


async def authenticate(request: web.Request, verifier: Verifier) -> Subject:
    """The subject of a request. Problem 401 if its credentials are missing or invalid."""
    headers = request.headers.getall("Authorization", ())
    if len(headers) != 1:
        raise _missing() if not headers else _invalid("Authorization is present more than once")
    scheme, _, token = headers[0].partition(" ")
    if scheme.lower() != _SCHEME:
        raise _missing()
    token = token.strip(" ")
    if not _TOKEN.fullmatch(token):
        raise _invalid("not a bearer token")
    try:
        return await verifier.verify(token)
    except InvalidCredentialsError as error:
        raise _invalid(str(error)) from None


def _missing() -> Problem:
    # Without an error code, as RFC 6750 section 3.1 says for a request without credentials.
    return Problem(
        401,
        "credentials_missing",
        "send an API key or token as Authorization: Bearer",
        headers={_CHALLENGE_HEADER: _CHALLENGE},
    )


def _invalid(reason: str) -> Problem:
    challenge = f'{_CHALLENGE}, error="invalid_token", error_description="{reason}"'
    return Problem(401, "credentials_invalid", reason, headers={_CHALLENGE_HEADER: challenge})


def role_needed(needed: Role) -> Problem:
    """403: authenticated, but without the needed role."""
    challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{needed}"'
    return Problem(
        403,
        "role_needed",
        f"this needs the role {needed}",
        extra={"role": str(needed)},
        headers={_CHALLENGE_HEADER: challenge},
    )
