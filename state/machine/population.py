"""In-memory index of a shard's users, derived from their documents and never stored."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyroaring import BitMap

from segments.contracts.auto import AutoRule
from segments.contracts.user_ids import USER_ID_BYTES, pack, unpack
from segments.state.machine.documents import StoredUser
from segments.state.machine.ranks import Ranks, ranks_of
from segments.state.machine.timers import Timers

MemberKey = tuple[str, int]
"""(segment, generation)"""
MembersOf = Callable[[str], BitMap]
"""Members of a segment, including assignments not yet written to documents."""


class Population:
    """Users by ordinal, members by generation, deferred commands and due times.

    Bitmaps hold ordinals, so that iteration has the same order before and after a restart. `ready`:
    users whose first deferred command can be executed.
    """

    def __init__(self) -> None:
        self.users = 0
        self._ids = bytearray()  # 16 bytes per ordinal
        self._members: dict[MemberKey, BitMap] = {}
        self._chosen: dict[MemberKey, BitMap] = {}
        self._opted_out: dict[MemberKey, BitMap] = {}
        self._accounts: dict[str, BitMap] = {}
        self._waiting: dict[str, BitMap] = {}
        self._missing_counts: dict[int, int] = {}
        self.ready = BitMap()
        self.timers = Timers()

    @classmethod
    def rebuild(
        cls,
        users: Iterable[tuple[str, StoredUser]],
        known_segments: Iterable[str],
        usable: Mapping[str, int],
    ) -> Population:
        """Build the index from all (user id, document) of a shard, in any order."""
        population = cls()
        known = set(known_segments)
        for user_id, user in users:
            ordinal = user["ordinal"]
            population.add_user(ordinal, user_id)
            population.set_account(ordinal, None, user["account"])
            for segment, membership in user["segments"].items():
                key = (segment, membership["generation"])
                population.add_member(key, ordinal, chosen=membership["origin"] == "auto")
            for segment, generation in user.get("pins", {}).items():
                if usable.get(segment) == generation:
                    population.opt_out((segment, generation), ordinal)
            if user["due"] is not None:
                population.timers.set(ordinal, user["due"])
            if user["parked"]:
                population.await_segments(ordinal, segments_in(user["parked"][0]["change"]) - known)
        return population

    def add_user(self, ordinal: int, user_id: str) -> None:
        """Add a user. Each ordinal is added once, in any order."""
        self.users += 1
        end = (ordinal + 1) * USER_ID_BYTES
        if len(self._ids) < end:
            self._ids.extend(bytes(end - len(self._ids)))
        self._ids[end - USER_ID_BYTES : end] = pack(user_id)

    @property
    def deferred_users(self) -> int:
        """Number of users whose first deferred command waits for a segment."""
        return len(self._missing_counts)

    def user_id(self, ordinal: int) -> str:
        """The canonical id of the user with this ordinal."""
        return unpack(self.id_bytes(ordinal))

    def set_account(self, ordinal: int, before: str | None, after: str) -> None:
        """Change a user's account state; `before` is None for a new user."""
        if before is not None:
            self._accounts[before].discard(ordinal)
        _add(self._accounts, after, ordinal)

    def add_member(self, key: MemberKey, ordinal: int, *, chosen: bool) -> None:
        """Add a member; `chosen`: by automatic assignment."""
        _add(self._members, key, ordinal)
        if chosen:
            _add(self._chosen, key, ordinal)

    def remove_member(self, key: MemberKey, ordinal: int) -> None:
        _discard(self._members, key, ordinal)
        _discard(self._chosen, key, ordinal)

    def opt_out(self, key: MemberKey, ordinal: int) -> None:
        """Exclude a user from the automatic assignment of a generation."""
        _add(self._opted_out, key, ordinal)

    def drop_opted_out(self, key: MemberKey) -> None:
        """Drop the opt-outs of a deleted generation."""
        self._opted_out.pop(key, None)

    def members(self, key: MemberKey) -> BitMap:
        """Members of a generation; read-only."""
        return self._members.get(key, _EMPTY)

    def opted_out(self, key: MemberKey) -> BitMap:
        """Users opted out of a generation; read-only."""
        return self._opted_out.get(key, _EMPTY)

    def chosen_count(self, key: MemberKey) -> int:
        """Number of members of a generation by automatic assignment."""
        return len(self._chosen.get(key, _EMPTY))

    def eligible(self, rule: AutoRule, own: MemberKey | None, members_of: MembersOf) -> BitMap:
        """Users that a rule admits, except members of `own` and those opted out of it."""
        found = BitMap.union(_EMPTY, *(self._accounts.get(a, _EMPTY) for a in rule["accounts"]))
        if rule["include"]:
            found &= BitMap.union(_EMPTY, *map(members_of, rule["include"]))
        for segment in rule["exclude"]:
            found -= members_of(segment)
        if own is not None:
            found -= self._members.get(own, _EMPTY)
            found -= self._opted_out.get(own, _EMPTY)
        return found

    def ranked(self, ordinals: BitMap, seed: int) -> tuple[NDArray[np.uint32], Ranks]:
        """(ordinals, their ranks): two arrays in ascending order of the ordinals."""
        numbers = np.array(ordinals.to_array(), dtype=np.uint32)
        # Indexing copies: a live view would lock the bytearray, and adding a user would fail.
        words = np.frombuffer(self._ids, dtype="<u8").reshape(-1, 2)[numbers]
        return numbers, ranks_of(seed, words)

    def id_bytes(self, ordinal: int) -> bytes:
        """The 16 bytes of the id of the user with this ordinal."""
        return bytes(self._ids[ordinal * USER_ID_BYTES : (ordinal + 1) * USER_ID_BYTES])

    def first_member(self, key: MemberKey) -> int | None:
        """The member with the lowest ordinal, or None when there is none left."""
        members = self._members.get(key)
        return None if members is None else members.min()

    def await_segments(self, ordinal: int, segments: Collection[str]) -> None:
        """Make the first deferred command wait for these segments; with none, mark it ready."""
        if not segments:
            self.ready.add(ordinal)
            return
        self._missing_counts[ordinal] = len(segments)
        for segment in segments:
            self._waiting.setdefault(segment, BitMap()).add(ordinal)

    def stop_waiting(self, ordinal: int, segments: Iterable[str]) -> None:
        """Remove the user from all waits, after its deferred command was executed."""
        self.ready.discard(ordinal)
        self._missing_counts.pop(ordinal, None)
        for segment in segments:
            waiting = self._waiting.get(segment)
            if waiting is not None:
                waiting.discard(ordinal)
                if not waiting:
                    del self._waiting[segment]

    def release(self, segment: str) -> None:
        """Stop waiting for a segment; users that wait for no other become ready."""
        for ordinal in self._waiting.pop(segment, BitMap()):
            self._missing_counts[ordinal] -= 1
            if not self._missing_counts[ordinal]:
                del self._missing_counts[ordinal]
                self.ready.add(ordinal)


_EMPTY = BitMap()


def _add(bitmaps: dict[Any, BitMap], key: Any, ordinal: int) -> None:
    found = bitmaps.get(key)
    if found is None:
        if isinstance(key, tuple):
            # Every parsed document has its own copy of the name; keep one per process.
            key = (sys.intern(key[0]), key[1])
        found = bitmaps[key] = BitMap()
    found.add(ordinal)


def _discard(bitmaps: dict[Any, BitMap], key: Any, ordinal: int) -> None:
    found = bitmaps.get(key)
    if found is not None:
        found.discard(ordinal)
        if not found:
            del bitmaps[key]


def segments_in(change: dict[str, object]) -> set[str]:
    """The segments that a `change` record names."""
    additions: list[list[str]] = change["add"]  # type: ignore[assignment]
    removals: list[str] = change["remove"]  # type: ignore[assignment]
    return {addition[0] for addition in additions}.union(removals)
