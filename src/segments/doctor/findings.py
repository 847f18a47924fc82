"""What a check finds: how it stands, what was seen, what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

FindingStatus = Literal["ok", "warn", "fail"]
_WORSE: tuple[FindingStatus, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """`seen`: in words, for whoever reads; `todo`: empty where there is nothing to be done."""

    check: str
    status: FindingStatus
    seen: str
    todo: str = ""

    def document(self) -> dict[str, Any]:
        """As JSON knows it."""
        return asdict(self)


def ok(check: str, seen: str) -> Finding:
    """As it should be."""
    return Finding(check, "ok", seen)


def warn(check: str, seen: str, todo: str) -> Finding:
    """Works, or may work, and someone should look."""
    return Finding(check, "warn", seen, todo)


def fail(check: str, seen: str, todo: str) -> Finding:
    """Does not work, or will not for long."""
    return Finding(check, "fail", seen, todo)


def worst(findings: list[Finding]) -> FindingStatus:
    """The worst that was found."""
    return max((finding.status for finding in findings), key=_WORSE.index, default="ok")
