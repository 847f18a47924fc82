"""Roles of clients, and the authenticated subject of a request."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from aiohttp import web


class Role(StrEnum):
    """A role, lowest first. Only routes have `open`: they need no credentials."""

    OPEN = "open"
    ANALYST = "analyst"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether this role includes the needed one."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {Role.OPEN: 0, Role.ANALYST: 1, Role.ADMIN: 2}


UNMATCHED = Role.ANALYST
"""The role required for a 404 or 405 on unmatched requests; without it, 401."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An authenticated client.

    `name` is the name of an API key or the subject of a token; several keys may share a name, so
    `key_id` identifies the key.
    """

    name: str
    role: Role
    key_id: str | None = None


ANONYMOUS = Subject("anonymous", Role.ADMIN)
"""Every client, with `auth.mode` `none`."""
SUBJECT = web.RequestKey("subject", Subject)
"""Set on every authenticated request; absent on open routes and signed links."""


def actor(request: web.Request) -> str | None:
    """The subject's name to record with a change; None if the client is not authenticated."""
    subject = request.get(SUBJECT)
    return None if subject is None or subject is ANONYMOUS else subject.name
