"""What a view must show, kept in plain dictionaries."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from segments.state.view import keys, responses
from segments.state.view.view import View


class Mark(NamedTuple):
    """A progress marker as far as the oracle cares."""

    log_offset: int
    defined: int


class Oracle:
    """Everything that was written, and nothing derived from it before it is asked for."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {}
        self.definitions: dict[str, tuple[int, bool]] = {}
        self.results: dict[str, int] = {}
        self.offsets: dict[tuple[str, int], int] = {}
        self.marks: dict[int, list[Mark]] = {}
        self.defined: dict[int, int] = {}

    def members(self) -> set[tuple[str, int, str]]:
        """(segment, generation, user) of every membership in a document."""
        return {
            (segment, held["generation"], user)
            for user, segments in self.users.items()
            for segment, held in segments.items()
        }

    def dead_members(self) -> set[tuple[str, int, str]]:
        """Members of generations that are deleted or older than the newest."""
        return {
            (segment, generation, user)
            for segment, generation, user in self.members()
            if self._is_dead(segment, generation)
        }

    def _is_dead(self, segment: str, generation: int) -> bool:
        newest, deleted = self.definitions.get(segment, (0, False))
        return generation < newest or (deleted and generation == newest)

    def ended(self, user: str, now_ms: int) -> set[str]:
        """Segments of a user whose end has come."""
        return {
            segment
            for segment, held in self.users[user].items()
            if held["expires_at"] is not None and held["expires_at"] <= now_ms
        }

    def counting(self, user: str, now_ms: int) -> set[str]:
        """The segments of a user at an instant."""
        stale = {
            segment
            for segment, held in self.users[user].items()
            if self._is_dead(segment, held["generation"])
        }
        return self.users[user].keys() - stale - self.ended(user, now_ms)

    def progress(self) -> dict[int, int]:
        """By partition the log offset that counts, where one does.

        The newest marker counts when its definitions are here; an older one that counted stays.
        """
        found = {}
        for partition, marks in self.marks.items():
            counting = [mark for mark in marks if mark.defined <= self.defined.get(partition, -1)]
            if counting:
                found[partition] = counting[-1].log_offset
        return found


def _wrong_answer(view: View, oracle: Oracle, user: str, now_ms: int) -> list[str]:
    """An answer made beforehand says what the document says; it is there while all counts."""
    made, document = view.response(user, now_ms), view.user(user)
    if document is None:
        return [] if made is None else [f"an answer about {user}, who is unknown"]
    if made is None:
        excused = oracle.dead_members() or oracle.ended(user, now_ms)
        return [] if excused else [f"no answer about {user}"]
    body = responses.body(document, view.memberships(document, now_ms))
    wanted = responses.StoredResponse(0, responses.digest(body), body)
    return [] if made == wanted else [f"{user} is answered with {made}"]


def differences(view: View, oracle: Oracle, users: list[str], now_ms: int) -> list[str]:
    """What the view shows otherwise than the oracle, in words."""
    found = []
    members = {
        keys.member_key(segment, generation, keys.user_key(user))
        for segment, generation, user in oracle.members()
    }
    if {key for key, _ in view.scan(keys.MEMBER_RANGE)} != members:
        found.append("the membership index")
    sizes = Counter((segment, generation) for segment, generation, _ in oracle.members())
    if view.sizes != dict(sizes):
        found.append(f"sizes: {view.sizes}, {dict(sizes)} expected")
    for user in users:
        document = view.user(user)
        if (document is None) != (user not in oracle.users):
            found.append(f"whether {user} is known")
        elif document is not None:
            shown = set(view.memberships(document, now_ms))
            if shown != oracle.counting(user, now_ms):
                found.append(f"{user} has {shown}")
        found += _wrong_answer(view, oracle, user, now_ms)
    if {n: mark.log_offset for n, mark in view.progress.items()} != oracle.progress():
        found.append(f"progress: {view.progress}, {oracle.progress()} expected")
    if view.offsets() != oracle.offsets:
        found.append("offsets")
    return found
