"""Contents of the view: users, members, definitions, results, progress."""

from __future__ import annotations

from uuid import UUID

from segments.state.view import keys
from segments.state.view.view import Marker, View
from tests.support.view.view_records import (
    ViewFiller,
    definition,
    document,
    held,
    marker,
    progress_key,
    result,
)

USERS = [str(UUID(int=n)) for n in range(1, 6)]
NOW_MS = 1_795_500_000_000


def shown(view: View, user_id: str, now_ms: int = NOW_MS) -> list[str]:
    found = view.user(user_id)
    assert found is not None
    return sorted(view.memberships(found, now_ms))


def index(view: View) -> set[bytes]:
    return {key for key, _ in view.scan(keys.MEMBER_RANGE)}


# --- documents, index and sizes ---


def test_a_document_is_what_was_consumed(view: View, fill: ViewFiller) -> None:
    fill.user(USERS[0], {"A": held()}, account="blocked")
    assert view.user(USERS[0]) == {
        "user_id": USERS[0],
        "account": "blocked",
        "segments": {"A": held()},
        "position": "0:1",
        "at": 1,
    }
    assert view.user(USERS[1]) is None


def test_several_records_of_one_user_in_one_batch_count_once(view: View, fill: ViewFiller) -> None:
    with fill as batch:
        for segments in ({"A": held()}, {"A": held(), "B": held()}, {"B": held()}):
            batch.user(USERS[0].encode(), document(USERS[0], segments))
        batch.user(USERS[1].encode(), document(USERS[1], {"B": held()}))
    assert (view.size("A", 1), view.size("B", 1)) == (0, 2)
    assert index(view) == {keys.member_key("B", 1, keys.user_key(user)) for user in USERS[:2]}


def test_a_tombstone_removes_the_user(view: View, fill: ViewFiller) -> None:
    fill.user(USERS[0], {"A": held()})
    with fill as batch:
        batch.user(USERS[0].encode(), None)
    assert view.user(USERS[0]) is None
    assert view.size("A", 1) == 0
    assert index(view) == set()


def test_a_name_that_is_a_prefix_of_another_has_its_own_range(view: View, fill: ViewFiller) -> None:
    fill.user(USERS[0], {"A": held(), "AB": held(), "A:1": held()})
    ranges = [
        [key for key, _ in view.scan(keys.member_key(name, 1, b"u"))] for name in ("A", "AB", "A:1")
    ]
    assert [len(found) for found in ranges] == [1, 1, 1]


def test_sizes_are_those_of_a_generation(view: View, fill: ViewFiller) -> None:
    fill.user(USERS[0], {"A": held(1)})
    fill.user(USERS[1], {"A": held(2)})
    fill.user(USERS[0], {"A": held(2)})
    assert (view.size("A", 1), view.size("A", 2)) == (0, 2)


# --- what counts ---


def test_a_membership_expires_on_time_for_readers(view: View, fill: ViewFiller) -> None:
    fill.user(USERS[0], {"A": held(expires_at=NOW_MS)})
    assert shown(view, USERS[0], NOW_MS - 1) == ["A"]
    assert shown(view, USERS[0], NOW_MS) == []


def test_old_and_deleted_generations_count_for_nothing(view: View, fill: ViewFiller) -> None:
    for user, generation in zip(USERS, (1, 2, 3), strict=False):
        fill.user(user, {"A": held(generation)})
    assert [shown(view, user) for user in USERS[:3]] == [["A"]] * 3, "not heard of yet: it counts"
    fill.define("A", 2)
    assert [shown(view, user) for user in USERS[:3]] == [[], ["A"], ["A"]]
    fill.define("A", 2, state="deleted")
    assert [shown(view, user) for user in USERS[:3]] == [[], [], ["A"]]


def test_definitions_in_use_are_listed_by_name(view: View, fill: ViewFiller) -> None:
    for name in ("b", "A", "é", "ab", "c"):
        fill.define(name)
    fill.define("c", state="deleted")
    names = [found["segment"] for found in view.definitions("", 100)]
    assert names == ["A", "ab", "b", "é"]
    assert [found["segment"] for found in view.definitions("A", 2)] == ["ab", "b"]
    assert [found["segment"] for found in view.definitions("ab", 1)] == ["b"]
    deleted = view.definition("c")
    assert deleted is not None
    assert deleted["state"] == "deleted"
    assert view.definition("d") is None


# --- markers ---


def test_a_marker_applies_once_its_definitions_are_applied(view: View, fill: ViewFiller) -> None:
    assert fill.mark(3, 10, 100, defined=7) == []
    assert 3 not in view.progress
    with fill as batch:
        batch.definition(b"A", definition("A", position="3:6"))
    assert fill.last.advanced == []
    with fill as batch:
        batch.definition(b"B", definition("B", position="3:7"))
    assert fill.last.advanced == [3]
    assert view.progress == {3: Marker(10, 100, 0, 7, 100)}


def test_an_older_marker_stays_until_the_newer_one_applies(view: View, fill: ViewFiller) -> None:
    assert fill.mark(0, 1, 10) == [0]
    assert fill.mark(0, 2, 20, defined=2) == []
    assert view.progress[0].log_offset == 1
    assert fill.mark(1, 9, 20) == [1], "another partition does not wait for it"
    fill.define("A", position="0:2")
    assert view.progress[0] == Marker(2, 20, 0, 2, 20)


def test_a_marker_and_its_definitions_in_one_batch(view: View, fill: ViewFiller) -> None:
    with fill as batch:
        batch.user(progress_key(2), marker(4, 40, defined=3))
        batch.definition(b"A", definition("A", position="2:3"))
    assert fill.last.advanced == [2]
    with fill as batch:
        batch.user(progress_key(2), None)
    assert view.progress[2].log_offset == 4, "a removed marker takes nothing back"


# --- results ---


def test_results_are_kept_until_they_are_pruned(view: View, fill: ViewFiller) -> None:
    for number in range(5):
        fill.result(f"c{number}", at_ms=100 + number)
    assert fill.last.results == {"c4": result("c4")}
    assert view.old_results(before_ms=102, limit=100) == [
        keys.result_age_key(100, b"c0"),
        keys.result_age_key(101, b"c1"),
    ]
    assert len(view.old_results(before_ms=200, limit=3)) == 3
    [first, second] = view.old_results(before_ms=102, limit=100)
    assert view.old_results(102, 100, start=second) == [second]
    with fill as batch:
        batch.forget_result(first)
    found = [view.result(f"c{number}") is None for number in range(5)]
    assert found == [True, False, False, False, False]


def test_a_repeated_result_is_not_pruned_by_its_first_age(view: View, fill: ViewFiller) -> None:
    fill.result("c", at_ms=100)
    fill.result("c", at_ms=200, status="unchanged")
    [old] = view.old_results(before_ms=150, limit=10)
    with fill as batch:
        batch.forget_result(old)
    again = view.result("c")
    assert again is not None
    assert again["status"] == "unchanged"
    [left] = view.old_results(before_ms=1_000, limit=10)
    with fill as batch:
        batch.forget_result(left)
    assert view.result("c") is None
    assert view.old_results(before_ms=1_000, limit=10) == []


def test_tombstones_of_definitions_and_results_are_ignored(view: View, fill: ViewFiller) -> None:
    """Only age and newer records do."""
    fill.define("A")
    fill.result("c", at_ms=1)
    with fill as batch:
        batch.definition(b"A", None)
        batch.result(b"c", None, 2)
    assert view.definition("A") is not None
    assert view.result("c") is not None
