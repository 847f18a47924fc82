"""Arguments of calls, validated and converted to JSON."""

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
    """A segment to add, without expiry, or with `ttl` or `expires_at`."""

    segment: str
    ttl: Ttl | None = None
    expires_at: When | None = None

    def body(self) -> dict[str, Any]:
        """As a JSON object."""
        body: dict[str, Any] = {"segment": self.segment}
        if self.ttl is not None:
            body["ttl"] = ttl(self.ttl)
        if self.expires_at is not None:
            body["expires_at"] = instant(self.expires_at, "expires_at")
        return body


@dataclass(frozen=True)
class Rule:
    """Automatic assignment of users to a segment: exactly one of `percent` and `count`.

    Eligible are users that are in one of `include` (if not empty), in none of `exclude`, and whose
    account has one of the states `accounts`. `newcomers`: also add users that become eligible
    later, by the same threshold.
    """

    percent: float | None = None
    count: int | None = None
    include: Iterable[str] = ()
    exclude: Iterable[str] = ()
    accounts: Iterable[str] = ("active",)
    ttl: Ttl | None = None
    newcomers: bool = False

    def body(self) -> dict[str, Any]:
        """As a JSON object."""
        body: dict[str, Any] = {
            "include": list(self.include),
            "exclude": list(self.exclude),
            "accounts": list(self.accounts),
            "newcomers": self.newcomers,
        }
        share = {"percent": self.percent, "count": self.count}
        body |= {name: value for name, value in share.items() if value is not None}
        if self.ttl is not None:
            body["ttl"] = ttl(self.ttl)
        return body


AddInput = str | Add | Mapping[str, Any]
"""A segment's name, an `Add`, or the JSON object of the contract."""


def addition(value: AddInput) -> Any:
    """Convert an addition to JSON."""
    return value.body() if isinstance(value, Add) else value


def rule(value: Rule | Mapping[str, Any]) -> dict[str, Any]:
    """Convert a rule to JSON."""
    return value.body() if isinstance(value, Rule) else dict(value)


def ttl(value: Ttl) -> str | float:
    """Convert a time to live to JSON."""
    return value.total_seconds() if isinstance(value, timedelta) else value


def instant(value: When, name: str) -> str:
    """Convert a time to RFC 3339. InvalidError if it has no offset."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise invalid(f"{name}: a datetime without a time zone is ambiguous")
        return rfc3339(value)
    try:
        from_rfc3339(value)
    except ValueError as error:
        raise invalid(f"{name}: {error}") from None
    return value


def user(value: str | UUID) -> str:
    """Canonical form of a user id. InvalidError if it is invalid."""
    try:
        return canonical_user_id(value)
    except ValueError as error:
        raise invalid(str(error)) from None


def segment(value: str) -> str:
    """Validate a segment name. InvalidError if it is invalid."""
    try:
        return check_segment_name(value)
    except ValueError as error:
        raise invalid(str(error)) from None
