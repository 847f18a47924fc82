"""Decisions on one segment in its home shard: pure functions of its document and a command."""

from __future__ import annotations

from typing import Any

from segments.state.documents import HomeState, ReplicaState
from segments.state.membership import Rejection


def undefined() -> HomeState:
    """The home of a name that was never in use: it remembers what was refused."""
    return HomeState(
        generation=0, version=0, state="deleted", description=None, created_at=0, outcomes={}
    )


def create(
    home: HomeState, command: dict[str, Any], *, now: int, active: int, max_segments: int
) -> Rejection | HomeState:
    """A new generation of a name that is not in use."""
    if home["state"] != "deleted":
        return Rejection("segment_exists", "the name is in use", [command["segment"]])
    if active >= max_segments:
        return Rejection("too_many_segments", f"there are at most {max_segments} segments")
    return HomeState(
        generation=home["generation"] + 1,
        version=home["version"] + 1,
        state="active",
        description=command.get("description"),
        created_at=now,
        outcomes=home["outcomes"],
    )


def update(home: HomeState, command: dict[str, Any]) -> Rejection | HomeState:
    """The same generation with another description; the same object when nothing changes."""
    if home["state"] == "deleted":
        return Rejection("segment_unknown", "no such segment", [command["segment"]])
    if command.get("description", home["description"]) == home["description"]:
        return home
    changed = home.copy()
    changed["version"] += 1
    changed["description"] = command["description"]
    return changed


def delete(home: HomeState, command: dict[str, Any]) -> Rejection | HomeState:
    """The end of a generation; its document stays, so that the next one has a higher number."""
    if home["state"] == "deleted":
        return Rejection("segment_unknown", "no such segment", [command["segment"]])
    deleted = home.copy()
    deleted["version"] += 1
    deleted["state"] = "deleted"
    return deleted


def definition(segment: str, home: HomeState, position: str) -> dict[str, Any]:
    """The public definition (design 3.4). `position` = partition:offset of the record behind it."""
    return {
        "segment": segment,
        "generation": home["generation"],
        "version": home["version"],
        "state": home["state"],
        "description": home["description"],
        "created_at": home["created_at"],
        "auto": None,
        "position": position,
    }


def supersedes(define: dict[str, Any], known: ReplicaState | None) -> bool:
    """Whether a `define` says more than the shard has heard."""
    return known is None or define["version"] > known["version"]
