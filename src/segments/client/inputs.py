"""What is asked for: additions, rules, instants, as the service wants them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from segments.client.errors import invalid
from segments.client.models import rfc3339
from segments.contracts.names import canonical_user_id, check_segment_name
from segments.contracts.times import from_rfc3339

Ttl = timedelta | str | float
"""A time to live: a timedelta, an ISO 8601 duration such as `P7D`, or seconds."""
When = datetime | str
"""An aware datetime, or RFC 3339 text with an offset."""


@dataclass(frozen=True)
class Add:
    """A segment to add, with its end: none, after `ttl`, or at `expires_at`."""

    segment: str
    ttl: Ttl | None = None
    expires_at: When | None = None

    def body(self) -> dict[str, Any]:
        """As the service wants it."""
        told: dict[str, Any] = {"segment": self.segment}
        if self.ttl is not None:
            told["ttl"] = ttl(self.ttl)
        if self.expires_at is not None:
            told["expires_at"] = instant(self.expires_at, "expires_at")
        return told


@dataclass(frozen=True)
class Rule:
    """Whom a segment is given to: exactly one of `percent` (of the eligible) and `count`.

    Eligible is who is in one of `include`, if given, in none of `exclude`, and has one of the
    `accounts`. `newcomers`: whoever becomes eligible later joins by the same threshold.
    """

    percent: float | None = None
    count: int | None = None
    include: Iterable[str] = ()
    exclude: Iterable[str] = ()
    accounts: Iterable[str] = ("active",)
    ttl: Ttl | None = None
    newcomers: bool = False

    def body(self) -> dict[str, Any]:
        """As the service wants it."""
        told: dict[str, Any] = {
            "include": list(self.include),
            "exclude": list(self.exclude),
            "accounts": list(self.accounts),
            "newcomers": self.newcomers,
        }
        share = {"percent": self.percent, "count": self.count}
        told |= {name: value for name, value in share.items() if value is not None}
        if self.ttl is not None:
            told["ttl"] = ttl(self.ttl)
        return told


AddInput = str | Add | Mapping[str, Any]
"""A segment's name, an `Add`, or the JSON object of the contract."""


def addition(wanted: AddInput) -> Any:
    """An addition as the service wants it."""
    return wanted.body() if isinstance(wanted, Add) else wanted


def rule(wanted: Rule | Mapping[str, Any]) -> dict[str, Any]:
    """A rule as the service wants it."""
    return wanted.body() if isinstance(wanted, Rule) else dict(wanted)


def ttl(wanted: Ttl) -> str | float:
    """A time to live as the service wants it."""
    return wanted.total_seconds() if isinstance(wanted, timedelta) else wanted


def instant(wanted: When, name: str) -> str:
    """An instant as the service wants it. InvalidError for one without an offset."""
    if isinstance(wanted, datetime):
        if wanted.tzinfo is None:
            raise invalid(f"{name}: a datetime without a time zone names no instant")
        return rfc3339(wanted)
    try:
        from_rfc3339(wanted)
    except ValueError as error:
        raise invalid(f"{name}: {error}") from None
    return wanted


def user(wanted: str | UUID) -> str:
    """The canonical form of a user id. InvalidError when it is none."""
    try:
        return canonical_user_id(wanted)
    except ValueError as error:
        raise invalid(str(error)) from None


def segment(wanted: str) -> str:
    """The name of a segment. InvalidError when it is none."""
    try:
        return check_segment_name(wanted)
    except ValueError as error:
        raise invalid(str(error)) from None
