"""Outcomes of the latest commands of a user or a segment, by command id.

They are most of the bytes of a busy document, and every command rewrites them all. Each is a line
of text, which encodes and decodes in a fraction of the time of a JSON object: `offset at status`,
then the changes, or the error as JSON:

    1042 1763900000123 applied +NEWS -TRIAL ~VIP
"""

from __future__ import annotations

import orjson

from segments.contracts.documents import MembershipOperation
from segments.state.machine.documents import Outcome

Outcomes = dict[str, str]
"""Command id -> line, oldest first."""

_SIGNS: dict[str, str] = {"add": "+", "remove": "-", "extend": "~"}
_OPERATIONS: dict[str, MembershipOperation] = {"+": "add", "-": "remove", "~": "extend"}


def remember(outcomes: Outcomes, command_id: str, outcome: Outcome, limit: int) -> None:
    """Store the outcome of a command; the oldest beyond `limit` is dropped."""
    line = f"{outcome['offset']} {outcome['at']} {outcome['status']}"
    if outcome["error"] is not None:
        line += f" {orjson.dumps(outcome['error']).decode()}"
    for segment, operation in outcome["changes"]:
        line += f" {_SIGNS[operation]}{segment}"
    outcomes[command_id] = line
    if len(outcomes) > limit:
        del outcomes[next(iter(outcomes))]


def recall(outcomes: Outcomes, command_id: str) -> Outcome | None:
    """The stored outcome of a command, or None."""
    line = outcomes.get(command_id)
    if line is None:
        return None
    offset, at, status, *rest = line.split(" ", 3)
    rejected = status == "rejected"
    changes = [] if rejected or not rest else rest[0].split(" ")
    return Outcome(
        status=status,  # type: ignore[typeddict-item]  # written by `remember`
        error=orjson.loads(rest[0]) if rejected else None,
        changes=[[change[1:], _OPERATIONS[change[0]]] for change in changes],
        offset=int(offset),
        at=int(at),
    )
