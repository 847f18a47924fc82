"""What examples of automatic assignment are made of."""

from __future__ import annotations

from typing import Any

from tests.support.machine.assigned import AssignedWorld
from tests.support.machine.chosen import place
from tests.support.machine.world import user_id


def world_of(users: int, partitions: int = 3, **limits: Any) -> AssignedWorld:
    world = AssignedWorld(partitions, **limits)
    for number in range(users):
        world.user("active", user_id(number))
    world.run()
    return world


def members(world: AssignedWorld, segment: str, users: int) -> set[str]:
    return {user_id(n) for n in range(users) if segment in world.held(user_id(n))}


def lowest(segment: str, users: list[str], count: int, generation: int = 1) -> set[str]:
    return set(sorted(users, key=lambda user: place(segment, generation, user))[:count])


def auto(world: AssignedWorld, segment: str, **rule: Any) -> dict[str, Any]:
    """Create an automatic segment and let it be written; its definition."""
    result = world.create(segment, auto=rule)
    assert result["status"] == "applied"
    world.settle()
    return world.definitions[segment]
