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
"""The role needed to be told that no route has this path or method; without it, 401."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a request comes from.

    `name` is that of an API key, or the subject of a token; `key_id` tells keys of one name apart.
    """

    name: str
    role: Role
    key_id: str | None = None


ANONYMOUS = Subject("anonymous", Role.ADMIN)
"""Everybody, with `auth.mode` none."""
SUBJECT = web.RequestKey("subject", Subject)
"""On every request that was admitted; absent where nobody is known: open routes, signed links."""


def actor(request: web.Request) -> str | None:
    """Who is behind a change, for its history; None when that is not known."""
    subject = request.get(SUBJECT)
    return None if subject is None or subject is ANONYMOUS else subject.name
