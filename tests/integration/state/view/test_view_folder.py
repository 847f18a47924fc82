"""The view's folder: reopening, damage and rebuilds."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from segments.state.view import view as view_module
from segments.state.view.view import Marker, SegmentGeneration, View
from tests.support.view.view_records import (
    IDENTITY,
    ViewFiller,
    definition,
    document,
    held,
    marker,
    opened,
    progress_key,
)

USERS = [str(UUID(int=n)) for n in range(1, 6)]
NOW_MS = 1_795_500_000_000


def shown(view: View, user_id: str, now_ms: int = NOW_MS) -> list[str]:
    found = view.user(user_id)
    assert found is not None
    return sorted(view.memberships(found, now_ms))


def filled(folder: Path) -> None:
    """A view with one of everything, closed."""
    view = opened(folder)
    fill = ViewFiller(view)
    fill.user(USERS[0], {"A": held()})
    fill.define("A", position="0:5")
    fill.mark(0, 6, 60, history_rows=1, defined=5)
    fill.result("c", at_ms=50)
    with fill as batch:
        batch.consumed("segments.users", 0, 12)
        batch.consumed("segments.results", 3, 4)
    view.mark_complete()
    view.close()


def assert_as_filled(view: View) -> None:
    assert view.complete
    assert shown(view, USERS[0]) == ["A"]
    assert view.segments == {"A": SegmentGeneration(1, deleted=False)}
    assert view.size("A", 1) == 1
    assert view.progress == {0: Marker(6, 60, 1, 5, 60)}
    assert view.result("c") is not None
    assert view.offsets() == {("segments.users", 0): 12, ("segments.results", 3): 4}


def assert_empty(view: View) -> None:
    assert not view.complete
    assert view.user(USERS[0]) is None
    assert view.offsets() == {}
    assert (view.segments, view.sizes, view.progress) == ({}, {}, {})


def test_a_reopened_view_resumes_from_its_offsets(tmp_path: Path) -> None:
    filled(tmp_path / "view")
    view = opened(tmp_path / "view")
    assert_as_filled(view)
    view.close()


def test_an_unwritten_batch_has_no_effect(tmp_path: Path) -> None:
    """A batch that a crash cuts off is consumed again: its offsets are not there either."""
    filled(tmp_path / "view")
    view = opened(tmp_path / "view")
    lost = ViewFiller(view).__enter__()
    lost.user(USERS[0].encode(), document(USERS[0], {"A": held(), "B": held()}))
    lost.definition(b"B", definition("B", position="0:9"))
    lost.user(progress_key(0), marker(10, 99, defined=9))
    lost.consumed("segments.users", 0, 14)
    assert_as_filled(view)
    view.close()
    view = opened(tmp_path / "view")
    assert_as_filled(view)
    again = ViewFiller(view)
    with again as batch:
        batch.user(USERS[0].encode(), document(USERS[0], {"A": held(), "B": held()}))
    with again as batch:
        batch.user(USERS[0].encode(), document(USERS[0], {"A": held(), "B": held()}))
    assert (view.size("A", 1), view.size("B", 1)) == (1, 1), "a record that comes twice counts once"
    view.close()


@pytest.mark.parametrize(
    "other",
    [
        {**IDENTITY, "topics": {"segments.users": "bb"}},
        {**IDENTITY, "partitions": [0, 1]},
    ],
)
def test_a_view_of_other_topics_is_rebuilt(tmp_path: Path, other: dict[str, object]) -> None:
    filled(tmp_path / "view")
    view = opened(tmp_path / "view", other)
    assert_empty(view)
    view.close()
    view = opened(tmp_path / "view", other)
    assert_empty(view)
    view.close()


def test_a_view_marked_for_rebuild_is_rebuilt_once(tmp_path: Path) -> None:
    filled(tmp_path / "view")
    view = opened(tmp_path / "view")
    view.require_rebuild()
    view.close()
    view = opened(tmp_path / "view")
    assert_empty(view)
    view.mark_complete()
    view.close()
    view = opened(tmp_path / "view")
    assert view.complete
    view.close()


def test_a_folder_deleted_under_an_open_view_can_be_marked(tmp_path: Path) -> None:
    view = opened(tmp_path / "view")
    for file in (tmp_path / "view").iterdir():
        file.unlink()
    (tmp_path / "view").rmdir()
    view.require_rebuild()
    view.close()
    view = opened(tmp_path / "view")
    assert_empty(view)
    view.close()


def corrupt(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(0, len(content), 2):
        content[place] ^= 0x5A
    file.write_bytes(content)


@pytest.mark.parametrize("pattern", ["CURRENT", "MANIFEST-*", "*.sst"])
@pytest.mark.parametrize("folder", ["view", "blocks/view"])
def test_a_damaged_view_is_rebuilt(tmp_path: Path, folder: str, pattern: str) -> None:
    """Also where the path has `lock` in it, as the message of a locked folder has."""
    filled(tmp_path / folder)
    opened(tmp_path / folder).close()
    files = list((tmp_path / folder).glob(pattern))
    assert files
    for file in files:
        corrupt(file)
    view = opened(tmp_path / folder)
    assert_empty(view)
    view.close()


def test_a_view_with_missing_files_is_rebuilt(tmp_path: Path) -> None:
    filled(tmp_path / "view")
    opened(tmp_path / "view").close()
    for file in (tmp_path / "view").glob("*.sst"):
        file.unlink()
    view = opened(tmp_path / "view")
    assert_empty(view)
    view.close()


def test_damage_in_entries_loaded_at_start_rebuilds_the_view(tmp_path: Path) -> None:
    """The files can be opened; the blocks of the definitions cannot be read."""
    view = opened(tmp_path / "view")
    fill = ViewFiller(view)
    for number in range(2_000):
        fill.define(f"segment-{number:04}")
    view.mark_complete()
    view.database.flush()
    view.close()
    [file] = (tmp_path / "view").glob("*.sst")
    content = bytearray(file.read_bytes())
    middle = len(content) // 3
    content[middle : middle + 200] = bytes(200)
    file.write_bytes(content)
    view = opened(tmp_path / "view")
    assert not view.complete
    assert view.segments == {}
    assert view.definitions("", 10) == []
    view.close()


def test_damage_found_at_the_first_read_rebuilds_the_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "view")
    real, opened_so_far = view_module._open_database, list[Any]()

    class Damaged:
        closed = False

        def get(self, _key: bytes) -> None:
            raise Exception("Corruption: block checksum mismatch")  # noqa: TRY002 - as rocksdict

        def close(self) -> None:
            self.closed = True

    def open_it(folder: Path) -> object:
        opened_so_far.append(Damaged() if not opened_so_far else real(folder))
        return opened_so_far[-1]

    monkeypatch.setattr(view_module, "_open_database", open_it)
    view = opened(tmp_path / "view")
    assert opened_so_far[0].closed
    assert_empty(view)
    view.close()


def test_other_errors_are_raised_and_keep_the_view(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "view")

    def load(_view: View) -> None:
        raise Exception("IO error: Too many open files")  # noqa: TRY002 - as rocksdict does

    with monkeypatch.context() as patched:
        patched.setattr(View, "_load", load)
        with pytest.raises(Exception, match="Too many open files"):
            opened(tmp_path / "view")
    view = opened(tmp_path / "view")
    assert_as_filled(view)
    view.close()


def test_a_locked_view_is_left_alone(tmp_path: Path) -> None:
    filled(tmp_path / "view")
    first = opened(tmp_path / "view")
    with pytest.raises(Exception, match="LOCK"):
        opened(tmp_path / "view")
    assert_as_filled(first)
    first.close()
    view = opened(tmp_path / "view")
    assert_as_filled(view)
    view.close()
