"""RocksDB of a shard: complete scans, and classification of its errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rocksdict import Rdict

from segments.state.rocksdb import is_damage, is_locked, open_database, scan

ROWS = 2_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A database of some files, closed."""
    folder = tmp_path / "shard"
    database = open_database(folder)
    for number in range(ROWS):
        database[b"u%06d" % number] = os.urandom(200)
    database.flush()
    database.close()
    return folder


@pytest.fixture
def database(folder: Path) -> Iterator[Rdict]:
    database = open_database(folder)
    yield database
    database.close()


def _flip_a_byte(folder: Path) -> None:
    [table] = folder.glob("*.sst")
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 0xFF
    table.write_bytes(content)


def test_a_scan_yields_all_keys_with_the_prefix_in_order(database: Rdict) -> None:
    database[b"t"] = database[b"v"] = b"beside"
    keys = [key for key, _ in scan(database, b"u")]
    assert keys == [b"u%06d" % number for number in range(ROWS)]
    assert [key for key, _ in scan(database, b"u00199")] == keys[-10:]
    assert list(scan(database, b"w")) == []


def test_a_scan_over_a_damaged_block_raises(folder: Path) -> None:
    """As `items()` of the library does not: it ends there, as if all had been read."""
    _flip_a_byte(folder)
    database = open_database(folder)
    try:
        assert 0 < sum(1 for _ in database.items()) < ROWS
        with pytest.raises(Exception, match="block checksum mismatch") as raised:
            list(scan(database, b"u"))
        assert is_damage(raised.value)
        assert not is_locked(raised.value)
    finally:
        database.close()


def test_a_stored_exception_does_not_keep_the_database_open(folder: Path) -> None:
    _flip_a_byte(folder)
    database = open_database(folder)
    with pytest.raises(Exception, match="block checksum mismatch") as raised:
        list(scan(database, b"u"))
    database.close()
    del database
    again = open_database(folder)
    again.close()
    assert raised.tb is not None


def _error_of_opening(folder: Path) -> Exception:
    with pytest.raises(Exception, match=r".") as raised:
        open_database(folder)
    return raised.value


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        ("CURRENT", b"nonsense"),
        ("CURRENT", None),
        ("MANIFEST-*", b"nonsense" * 100),
        ("MANIFEST-*", None),
        ("*.sst", b"short"),
        ("*.sst", None),
    ],
)
def test_a_missing_or_changed_file_is_damage(
    folder: Path, pattern: str, content: bytes | None
) -> None:
    [path] = folder.glob(pattern)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    error = _error_of_opening(folder)
    assert is_damage(error)
    assert not is_locked(error)


def test_a_database_open_in_this_process_is_locked(folder: Path, database: Rdict) -> None:
    error = _error_of_opening(folder)
    assert is_locked(error)
    assert not is_damage(error)


def test_a_database_open_in_another_process_is_locked(folder: Path, database: Rdict) -> None:
    script = (
        "import pathlib, sys\n"
        "from segments.state.rocksdb import is_damage, is_locked, open_database\n"
        "try:\n"
        "    open_database(pathlib.Path(sys.argv[1]))\n"
        "except Exception as error:\n"
        "    print(is_locked(error), is_damage(error))\n"
    )
    argv = [sys.executable, "-c", script, str(folder)]
    said = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert said.stdout == "True False\n"


def test_a_full_disk_is_not_damage() -> None:
    error = Exception("IO error: No space left on device: While appending to file: /x/000009.sst")
    assert not is_damage(error)


def test_a_database_can_be_read_beside_the_process_that_writes_it(
    folder: Path, database: Rdict
) -> None:
    database[b"new"] = b"unflushed"
    beside = open_database(folder, read_only=True)
    try:
        assert beside[b"new"] == b"unflushed"
        assert sum(1 for _ in scan(beside, b"u")) == ROWS
    finally:
        beside.close()
