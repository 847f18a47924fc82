"""This machine: the folder for all that is kept, its disk, and how many files may be open."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from segments.doctor.findings import Finding, fail, ok, warn
from segments.settings import Settings

FOLDER, DISK, INODES, FILES = "data_dir", "disk", "inodes", "open files"
LEAST_FREE_BYTES = 1 << 30
"""Below this a checkpoint, a view that is filled anew or a log may find no room."""
LEAST_INODES_SHARE = 0.05
LEAST_FILES = 4_096
"""RocksDB keeps the files of every shard open, and each connection is one."""
_MIB = 1 << 20


def look_at_folder(settings: Settings, _timeout_s: float) -> Iterator[Finding]:
    """Whether it can be written, by whom, and how much room there is."""
    folder = settings.data_dir
    there = _nearest(folder)
    yield writable(folder, there)
    yield disk(shutil.disk_usage(there).free, taken_bytes(folder))
    numbers = os.statvfs(there)
    yield inodes(numbers.f_favail, numbers.f_files)


def _nearest(folder: Path) -> Path:
    """The folder, or the first above it that is there."""
    while not folder.exists():
        folder = folder.parent
    return folder


def writable(folder: Path, there: Path) -> Finding:
    """Whether a file can be made in it, and whose it is. `there`: it, or what is above it."""
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".doctor-"):
            pass
    except OSError as error:
        todo = "give the service's user the right to write there, or set data_dir"
        return fail(FOLDER, f"{folder}: {error.strerror or error}", todo)
    if there != folder:
        return ok(FOLDER, f"{folder} is not there yet; it can be made in {there}")
    return owned(folder, there.stat().st_uid, os.geteuid())


def owned(folder: Path, owner: int, ours: int) -> Finding:
    """Whether this user can share what it may write with the owner."""
    # A container's volume may be root's, and written to by the group of the service.
    if owner not in (ours, 0):
        todo = "run the service, and this command, as the owner: files of two users get mixed up"
        return warn(FOLDER, f"{folder} is of user {owner}, this command of {ours}", todo)
    return ok(FOLDER, f"{folder} can be written")


def taken_bytes(folder: Path) -> int:
    """What is kept there now; what goes away meanwhile counts for nothing."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118 - many
            except FileNotFoundError:
                continue
    return total


def disk(free_bytes: int, kept_bytes: int) -> Finding:
    """Whether there is room for what is kept once more: a rebuild and a compaction need that."""
    seen = f"{free_bytes // _MIB} MiB free, {kept_bytes // _MIB} MiB kept"
    if free_bytes < LEAST_FREE_BYTES:
        return fail(DISK, seen, "make room, or move data_dir to a larger disk")
    if free_bytes < kept_bytes:
        return warn(DISK, seen, "make room for as much again: a rebuild needs it for a while")
    return ok(DISK, seen)


def inodes(free: int, total: int) -> Finding:
    """Whether files can be made. File systems without a number of them say 0."""
    if total == 0:
        return ok(INODES, "this file system has no limit of its own")
    seen = f"{free} of {total} free"
    if free < total * LEAST_INODES_SHARE:
        return (fail if free < 1_000 else warn)(INODES, seen, "remove small files on this disk")
    return ok(INODES, seen)


def look_at_limits(_settings: Settings, _timeout_s: float) -> Iterator[Finding]:
    """How many files a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield open_files(soft, hard)


def open_files(soft: int, hard: int) -> Finding:
    """`soft` is what holds, `hard` what it can be raised to."""
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= LEAST_FILES:
        return ok(FILES, f"{'any number' if soft == unlimited else soft} a process")
    todo = f"raise it to {LEAST_FILES} or more: ulimit -n, LimitNOFILE=, or ulimits of a container"
    return warn(FILES, f"{soft} a process (can be raised to {hard})", todo)
