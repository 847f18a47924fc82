"""What a shard keeps in memory about all its users; derived from the documents, never stored."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable

from pyroaring import BitMap

from segments.state.documents import UserState
from segments.state.timers import Timers

_ID_BYTES = 16

MemberKey = tuple[str, int]
"""(segment, generation)"""


class Population:
    """Users by ordinal, members of each segment's generation, who waits, and who has what due.

    `ids`: 16 bytes an ordinal. Bitmaps hold ordinals, so that every walk has one order, the same
    before and after a restart. `ready`: whose first parked command has all its segments.
    """

    def __init__(self) -> None:
        self.users = 0
        self._ids = bytearray()
        self._members: dict[MemberKey, BitMap] = {}
        self._waiting: dict[str, BitMap] = {}
        self._awaited: dict[int, int] = {}
        self.ready = BitMap()
        self.timers = Timers()

    @classmethod
    def rebuild(
        cls, users: Iterable[tuple[str, UserState]], known_segments: Iterable[str]
    ) -> Population:
        """Read all documents of a shard once: (user id, document) in any order."""
        population = cls()
        known = set(known_segments)
        for user_id, user in users:
            ordinal = user["ordinal"]
            population.add_user(ordinal, user_id)
            for segment, membership in user["segments"].items():
                population.add_member((segment, membership["generation"]), ordinal)
            if user["due"] is not None:
                population.timers.set(ordinal, user["due"])
            if user["parked"]:
                population.wait(ordinal, names_of(user["parked"][0]["change"]) - known)
        return population

    def add_user(self, ordinal: int, user_id: str) -> None:
        """Ordinals come once each; gaps are filled later when read out of order."""
        self.users += 1
        end = (ordinal + 1) * _ID_BYTES
        if len(self._ids) < end:
            self._ids.extend(bytes(end - len(self._ids)))
        self._ids[end - _ID_BYTES : end] = bytes.fromhex(user_id.replace("-", ""))

    def user_id(self, ordinal: int) -> str:
        """The canonical id of the user with this ordinal."""
        text = self._ids[ordinal * _ID_BYTES : (ordinal + 1) * _ID_BYTES].hex()
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def add_member(self, key: MemberKey, ordinal: int) -> None:
        members = self._members.get(key)
        if members is None:
            # Each document brings its own copy of a name: one will do for all shards of a process.
            members = self._members[sys.intern(key[0]), key[1]] = BitMap()
        members.add(ordinal)

    def remove_member(self, key: MemberKey, ordinal: int) -> None:
        members = self._members[key]
        members.discard(ordinal)
        if not members:
            del self._members[key]

    def first_member(self, key: MemberKey) -> int | None:
        """The member with the lowest ordinal, or None when there is none left."""
        members = self._members.get(key)
        return None if members is None else members.min()

    def wait(self, ordinal: int, segments: Collection[str]) -> None:
        """The user's first parked command waits for these segments; for none: it can be decided."""
        if not segments:
            self.ready.add(ordinal)
            return
        self._awaited[ordinal] = len(segments)
        for segment in segments:
            self._waiting.setdefault(segment, BitMap()).add(ordinal)

    def wait_no_more(self, ordinal: int, segments: Iterable[str]) -> None:
        """The user's first parked command was decided."""
        self.ready.discard(ordinal)
        self._awaited.pop(ordinal, None)
        for segment in segments:
            waiting = self._waiting.get(segment)
            if waiting is not None:
                waiting.discard(ordinal)
                if not waiting:
                    del self._waiting[segment]

    def heard_of(self, segment: str) -> None:
        """Whoever waited for this segment, and for no other, may go on."""
        for ordinal in self._waiting.pop(segment, BitMap()):
            self._awaited[ordinal] -= 1
            if not self._awaited[ordinal]:
                del self._awaited[ordinal]
                self.ready.add(ordinal)


def names_of(change: dict[str, object]) -> set[str]:
    """The segments that a `change` record names."""
    additions: list[list[str]] = change["add"]  # type: ignore[assignment]
    removals: list[str] = change["remove"]  # type: ignore[assignment]
    return {addition[0] for addition in additions}.union(removals)
