"""Whether a rule admits a user: pure functions of one document."""

from __future__ import annotations

from collections.abc import Mapping

from segments.contracts.auto import AutoRule
from segments.state.machine.documents import StoredUser


def is_eligible(user: StoredUser, rule: AutoRule, usable: Mapping[str, int]) -> bool:
    """Whether the filters admit a settled user, regardless of its membership or opt-out.

    A deleted segment has no members: in `include` it admits no user, in `exclude` it
    excludes none.
    """
    if user["account"] not in rule["accounts"]:
        return False
    if rule["include"] and not any(_has(user, name, usable) for name in rule["include"]):
        return False
    return not any(_has(user, name, usable) for name in rule["exclude"])


def same_filters(one: AutoRule, other: AutoRule) -> bool:
    """Whether two rules admit the same users, now and later, whatever their percentage or count."""
    return (
        one["accounts"] == other["accounts"]
        and one["include"] == other["include"]
        and one["exclude"] == other["exclude"]
        and one["newcomers"] == other["newcomers"]
    )


def _has(user: StoredUser, segment: str, usable: Mapping[str, int]) -> bool:
    held = user["segments"].get(segment)
    return held is not None and held["generation"] == usable.get(segment)
