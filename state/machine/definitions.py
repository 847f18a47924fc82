"""Decisions about one segment in its home shard: pure functions of document and command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from segments.contracts.auto import AutoRule
from segments.state.machine.assignment_coordinator import raises
from segments.state.machine.documents import AutoState, HomeState, KnownSegment
from segments.state.machine.eligibility import same_filters
from segments.state.machine.memberships import Rejection


def undefined() -> HomeState:
    """Document of a segment that never existed; stores the outcomes of rejected commands."""
    return HomeState(
        generation=0, version=0, state="deleted", description=None, created_at=0, outcomes={}
    )


def create(
    home: HomeState,
    command: dict[str, Any],
    *,
    now: int,
    active: int,
    max_segments: int,
) -> Rejection | HomeState:
    """Create a new generation of an unused name; with a rule its first state is `assigning`."""
    if home["state"] != "deleted":
        return Rejection("segment_exists", "the name is in use", [command["segment"]])
    if active >= max_segments:
        return Rejection("too_many_segments", f"there are at most {max_segments} segments")
    created = HomeState(
        generation=home["generation"] + 1,
        version=home["version"] + 1,
        state="active",
        description=command.get("description"),
        created_at=now,
        outcomes=home["outcomes"],
    )
    if (rule := command.get("auto")) is not None:
        created["state"] = "assigning"
        created["auto"] = _new_auto(rule)
    return created


def _new_auto(rule: AutoRule) -> AutoState:
    return AutoState(rule=rule, round=0, threshold=None, target=None, assigned=None, skipped=0)


def update(home: HomeState, command: dict[str, Any]) -> Rejection | HomeState:
    """Change the description or rule of a generation; returns `home` itself if nothing changes."""
    if home["state"] == "deleted":
        return Rejection("segment_unknown", "no such segment", [command["segment"]])
    changed = home.copy()
    if "description" in command:
        changed["description"] = command["description"]
    rule = command.get("auto")
    rejection = None if rule is None else _change_rule(changed, rule, command["segment"])
    if rejection is not None:
        return rejection
    if changed == home:
        return home
    changed["version"] += 1
    return changed


def _change_rule(changed: HomeState, rule: AutoRule, segment: str) -> Rejection | None:
    """Set the rule: a higher percentage or count starts a round, a lower one is rejected."""
    auto = changed.get("auto")
    if auto is None:
        changed["auto"] = _new_auto(rule)
        changed["state"] = "assigning"
        return None
    if auto["rule"] == rule:
        return None
    if changed["state"] == "assigning":
        return Rejection(
            "assigning", "an assignment is in progress; its rule cannot change", [segment]
        )
    more = raises(auto["rule"], rule)
    if more is None:
        detail = "a percentage or count can only be raised, and not be exchanged for the other"
        return Rejection("percent_shrinks", detail, [segment])
    changed["auto"] = auto.copy()
    changed["auto"]["rule"] = rule
    if more:
        changed["state"] = "assigning"
        if not same_filters(auto["rule"], rule):
            # The threshold is valid only for the filters it was found with; the round sets another.
            changed["auto"]["threshold"] = None
    return None


def delete(home: HomeState, command: dict[str, Any]) -> Rejection | HomeState:
    """Delete a generation; keep the document, so that the next generation has a higher number."""
    if home["state"] == "deleted":
        return Rejection("segment_unknown", "no such segment", [command["segment"]])
    deleted = home.copy()
    deleted["version"] += 1
    deleted["state"] = "deleted"
    deleted.pop("running", None)
    deleted.pop("auto", None)
    return deleted


def reject_unknown_filters(
    home: HomeState, command: dict[str, Any], usable: Mapping[str, int]
) -> Rejection | None:
    """Reject a rule that filters by segments not in use.

    Repeating the current rule is accepted, even if a segment in its filters was deleted since.
    """
    rule: AutoRule | None = command.get("auto")
    auto = home.get("auto")
    if rule is None or (auto is not None and auto["rule"] == rule):
        return None
    unknown = unusable_filters(rule, usable)
    if not unknown:
        return None
    return Rejection("segment_unknown", "the filters name no such segment", unknown)


def unusable_filters(rule: AutoRule, usable: Mapping[str, int]) -> list[str]:
    """Segments in a rule's filters that are not in use."""
    return [name for name in (*rule["include"], *rule["exclude"]) if name not in usable]


def definition(segment: str, home: HomeState, position: str) -> dict[str, Any]:
    """The public definition. `position`: partition:offset of the log record that caused it."""
    return {
        "segment": segment,
        "generation": home["generation"],
        "version": home["version"],
        "state": home["state"],
        "description": home["description"],
        "created_at": home["created_at"],
        "auto": _public_auto(home.get("auto")),
        "position": position,
    }


def _public_auto(auto: AutoState | None) -> dict[str, Any] | None:
    if auto is None:
        return None
    rule, threshold = auto["rule"], auto["threshold"]
    ppm = rule["ppm"]
    return {
        "percent": None if ppm is None else ppm / 10_000,
        "count": rule["count"],
        "include": rule["include"],
        "exclude": rule["exclude"],
        "accounts": rule["accounts"],
        "ttl_ms": rule["ttl_ms"],
        "newcomers": rule["newcomers"],
        # As text: many JSON parsers keep only 53 bits of a number.
        "threshold": None if threshold is None else f"{threshold[0]:016x}",
        "target": auto["target"],
        "assigned": auto["assigned"],
        "skipped": auto["skipped"],
    }


def supersedes(define: dict[str, Any], known: KnownSegment | None) -> bool:
    """Whether a `define` record is newer than the definition the shard knows."""
    return known is None or define["version"] > known["version"]
