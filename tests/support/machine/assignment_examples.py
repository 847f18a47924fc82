"""Shorthands for tests of automatic assignment."""

from __future__ import annotations

from typing import Any

from tests.support.machine.assignment_oracle import place
from tests.support.machine.assignment_world import AssignmentWorld
from tests.support.machine.world import user_id


def world_of(users: int, partitions: int = 3, **limits: Any) -> AssignmentWorld:
    world = AssignmentWorld(partitions, **limits)
    for number in range(users):
        world.user("active", user_id(number))
    world.run()
    return world


def members(world: AssignmentWorld, segment: str, users: int) -> set[str]:
    return {user_id(n) for n in range(users) if segment in world.memberships(user_id(n))}


def lowest(segment: str, users: list[str], count: int, generation: int = 1) -> set[str]:
    return set(sorted(users, key=lambda user: place(segment, generation, user))[:count])


def auto(world: AssignmentWorld, segment: str, **rule: Any) -> dict[str, Any]:
    """Create an automatic segment and complete its round; returns its definition."""
    result = world.create(segment, auto=rule)
    assert result["status"] == "applied"
    world.settle()
    return world.definitions[segment]
