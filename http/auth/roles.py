"""Which role each route needs: the one table, and who a request was found to come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from aiohttp import web

from segments.settings.auth import AuthSettings


class Role(StrEnum):
    """What a client may do. `open` is of routes alone: they need nobody."""

    OPEN = "open"
    ANALYST = "analyst"
    ADMIN = "admin"

    def covers(self, needed: Role) -> bool:
        """Whether who has this role may do what needs the other."""
        return _RANKS[self] >= _RANKS[needed]


_RANKS = {Role.OPEN: 0, Role.ANALYST: 1, Role.ADMIN: 2}


class Row(NamedTuple):
    """What a route needs. `link`: a signed link opens it as well, for GET and HEAD."""

    role: Role
    link: bool = False


OPEN, ANALYST, ADMIN = Row(Role.OPEN), Row(Role.ANALYST), Row(Role.ADMIN)
METRICS = ("GET", "/metrics")

TABLE: Mapping[tuple[str, str], Row] = MappingProxyType(
    {
        ("GET", "/v1/users/{user_id}/segments"): ANALYST,
        ("PATCH", "/v1/users/{user_id}/segments"): ADMIN,
        ("GET", "/v1/users/{user_id}/segments/{segment}"): ANALYST,
        ("GET", "/v1/users/{user_id}/history"): ANALYST,
        ("POST", "/v1/memberships/query"): ANALYST,
        ("POST", "/v1/segments"): ADMIN,
        ("GET", "/v1/segments"): ANALYST,
        ("GET", "/v1/segments/{segment}"): ANALYST,
        ("PATCH", "/v1/segments/{segment}"): ADMIN,
        ("DELETE", "/v1/segments/{segment}"): ADMIN,
        # A preview goes through the log, but changes nothing.
        ("POST", "/v1/segments/preview"): ANALYST,
        ("GET", "/v1/segments/{segment}/users"): ANALYST,
        ("POST", "/v1/commands"): ADMIN,
        ("GET", "/v1/commands/{command_id}"): ANALYST,
        ("POST", "/v1/reports"): ANALYST,
        ("GET", "/v1/reports/{month}.csv"): Row(Role.ANALYST, link=True),
        ("GET", "/v1/reports/jobs"): ANALYST,
        ("GET", "/v1/reports/jobs/{job_id}"): ANALYST,
        ("DELETE", "/v1/reports/jobs/{job_id}"): ADMIN,
        ("GET", "/livez"): OPEN,
        ("GET", "/readyz"): OPEN,
        METRICS: OPEN,  # unless auth.metrics says otherwise
        ("GET", "/openapi.json"): OPEN,
        ("GET", "/docs"): OPEN,
        ("GET", "/docs/{file}"): OPEN,
        ("GET", "/dev/users/{user_id}"): ADMIN,
        ("PUT", "/dev/users/{user_id}"): ADMIN,
        ("DELETE", "/dev/users/{user_id}"): ADMIN,
        ("POST", "/dev/users/import"): ADMIN,
    }
)
"""(method, path as registered) -> what it needs. A route without a row cannot be registered.

HEAD needs what GET needs. What no route takes, and a method that a path does not know, is answered
only to those who are known, with any role.
"""
ELSEWHERE = ANALYST


def row(method: str, path: str, auth: AuthSettings) -> Row:
    """What a route needs under these settings. LookupError when the table has no such route."""
    if (method, path) == METRICS:
        return Row(Role(auth.metrics))
    try:
        return TABLE[method, path]
    except KeyError:
        raise LookupError(f"{method} {path} has no row in http.access.roles.TABLE") from None


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
