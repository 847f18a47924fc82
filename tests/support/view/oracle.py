"""Expected contents of a view, in plain dictionaries."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from segments.state.view import keys, responses
from segments.state.view.view import View


class Mark(NamedTuple):
    """The fields of a progress marker that the oracle uses."""

    log_offset: int
    defined: int


class Oracle:
    """Stores everything written; derives the expected contents on request."""

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

    def stale_members(self) -> set[tuple[str, int, str]]:
        """Members of generations that are deleted or older than the newest."""
        return {
            (segment, generation, user)
            for segment, generation, user in self.members()
            if self._is_stale(segment, generation)
        }

    def _is_stale(self, segment: str, generation: int) -> bool:
        newest, deleted = self.definitions.get(segment, (0, False))
        return generation < newest or (deleted and generation == newest)

    def ended(self, user: str, now_ms: int) -> set[str]:
        """Expired memberships of a user, by segment."""
        return {
            segment
            for segment, held in self.users[user].items()
            if held["expires_at"] is not None and held["expires_at"] <= now_ms
        }

    def current(self, user: str, now_ms: int) -> set[str]:
        """Segments whose memberships are in effect at `now_ms`."""
        stale = {
            segment
            for segment, held in self.users[user].items()
            if self._is_stale(segment, held["generation"])
        }
        return self.users[user].keys() - stale - self.ended(user, now_ms)

    def progress(self) -> dict[int, int]:
        """Expected progress: log offset by partition.

        The newest marker applies once its definitions are applied; until then an older one stays.
        """
        found = {}
        for partition, marks in self.marks.items():
            counting = [mark for mark in marks if mark.defined <= self.defined.get(partition, -1)]
            if counting:
                found[partition] = counting[-1].log_offset
        return found


def _response_difference(view: View, oracle: Oracle, user: str, now_ms: int) -> list[str]:
    """Compare the stored response with the document; it may be missing only when outdated."""
    response, document = view.response(user, now_ms), view.user(user)
    if document is None:
        return [] if response is None else [f"a response about unknown user {user}"]
    if response is None:
        excused = oracle.stale_members() or oracle.ended(user, now_ms)
        return [] if excused else [f"no response about {user}"]
    body = responses.body(document, view.memberships(document, now_ms))
    expected = responses.StoredResponse(0, responses.digest(body), body)
    return [] if response == expected else [f"response of {user}: {response}"]


def differences(view: View, oracle: Oracle, users: list[str], now_ms: int) -> list[str]:
    """Descriptions of the differences between view and oracle."""
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
            if shown != oracle.current(user, now_ms):
                found.append(f"{user} has {shown}")
        found += _response_difference(view, oracle, user, now_ms)
    if {n: mark.log_offset for n, mark in view.progress.items()} != oracle.progress():
        found.append(f"progress: {view.progress}, {oracle.progress()} expected")
    if view.offsets() != oracle.offsets:
        found.append("offsets")
    return found
