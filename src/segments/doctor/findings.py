"""The result of a check: its status, what was observed, and how to fix it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

FindingStatus = Literal["ok", "warn", "fail"]
_BY_SEVERITY: tuple[FindingStatus, ...] = ("ok", "warn", "fail")


@dataclass(frozen=True)
class Finding:
    """`seen`: the observation, for people; `todo`: how to fix it, empty if nothing is wrong."""

    check: str
    status: FindingStatus
    seen: str
    todo: str = ""

    def document(self) -> dict[str, Any]:
        """The JSON form of the finding."""
        return asdict(self)


def ok(check: str, seen: str) -> Finding:
    """Nothing is wrong."""
    return Finding(check, "ok", seen)


def warn(check: str, seen: str, todo: str) -> Finding:
    """It works, or may work, but needs attention."""
    return Finding(check, "warn", seen, todo)


def fail(check: str, seen: str, todo: str) -> Finding:
    """It does not work, or will soon fail."""
    return Finding(check, "fail", seen, todo)


def worst(findings: list[Finding]) -> FindingStatus:
    """The most severe status; ok without findings."""
    return max((finding.status for finding in findings), key=_BY_SEVERITY.index, default="ok")
