"""Bearer tokens as they come (RFC 6750), and the answers to those that are missing or not good."""

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


class Refused(Exception):  # noqa: N818 - no error of ours
    """A token that is not good. The message is told to whom it came from: no quotes, no secrets."""


class Verifier(Protocol):
    """Knows whether a bearer token is good."""

    async def verify(self, token: str) -> Subject:
        """Whose it is. Refused when it is not good; Problem 503 when that cannot be told now."""
        ...

    async def start(self) -> None:
        """Get ready; what cannot be had yet is waited for by `verify`."""
        ...

    async def close(self) -> None:
        """End what was started."""
        ...


async def subject_of(request: web.Request, verifier: Verifier) -> Subject:
    """Whom the request comes from. Problem 401 when it does not show that."""
    headers = request.headers.getall("Authorization", ())
    if len(headers) != 1:
        raise _missing() if not headers else _refused("Authorization stands there more than once")
    scheme, _, token = headers[0].partition(" ")
    if scheme.lower() != _SCHEME:
        raise _missing()
    token = token.strip(" ")
    if not _TOKEN.fullmatch(token):
        raise _refused("not a bearer token")
    try:
        return await verifier.verify(token)
    except Refused as refused:
        raise _refused(str(refused)) from None


def _missing() -> Problem:
    # Without an error word: nothing was shown that could be wrong (RFC 6750 3.1).
    return Problem(
        401,
        "credentials_missing",
        "send an API key or token as Authorization: Bearer",
        headers={_CHALLENGE_HEADER: _CHALLENGE},
    )


def _refused(reason: str) -> Problem:
    challenge = f'{_CHALLENGE}, error="invalid_token", error_description="{reason}"'
    return Problem(401, "credentials_invalid", reason, headers={_CHALLENGE_HEADER: challenge})


def role_needed(needed: Role) -> Problem:
    """403: known, but not allowed."""
    challenge = f'{_CHALLENGE}, error="insufficient_scope", scope="{needed}"'
    return Problem(
        403,
        "role_needed",
        f"this needs the role {needed}",
        extra={"role": str(needed)},
        headers={_CHALLENGE_HEADER: challenge},
    )
