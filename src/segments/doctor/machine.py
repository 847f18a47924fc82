"""Checks of this machine: the data folder, its disk, and the limit of open files."""

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
MIN_FREE_BYTES = 1 << 30
"""With less, a checkpoint, the rebuild of a view or a log may run out of space."""
MIN_FREE_INODES_SHARE = 0.05
MIN_OPEN_FILES = 4_096
"""RocksDB keeps the files of every shard open, and each connection needs a descriptor."""
_MIB = 1 << 20


def look_at_folder(settings: Settings, _timeout_s: float) -> Iterator[Finding]:
    """Whether data_dir is writable, who owns it, and how much space is left."""
    folder = settings.data_dir
    there = _nearest(folder)
    yield writable(folder, there)
    yield disk(shutil.disk_usage(there).free, used_bytes(folder))
    numbers = os.statvfs(there)
    yield inodes(numbers.f_favail, numbers.f_files)


def _nearest(folder: Path) -> Path:
    """The folder, or its nearest existing ancestor."""
    while not folder.exists():
        folder = folder.parent
    return folder


def writable(folder: Path, there: Path) -> Finding:
    """Whether the folder is writable, and its owner. `there`: its nearest existing ancestor."""
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".doctor-"):
            pass
    except OSError as error:
        todo = "grant the service's user write access, or set data_dir"
        return fail(FOLDER, f"{folder}: {error.strerror or error}", todo)
    if there != folder:
        return ok(FOLDER, f"{folder} does not exist yet; it can be created in {there}")
    return owned(folder, there.stat().st_uid, os.geteuid())


def owned(folder: Path, owner: int, ours: int) -> Finding:
    """Whether the owner of the folder is this user."""
    # A container's volume may belong to root and be writable for the group of the service.
    if owner not in (ours, 0):
        todo = "run the service and this command as its owner, or files of two users get mixed"
        return warn(FOLDER, f"{folder} belongs to user {owner}, this command runs as {ours}", todo)
    return ok(FOLDER, f"{folder} is writable")


def used_bytes(folder: Path) -> int:
    """Disk usage of the folder; files deleted meanwhile do not count."""
    total = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_blocks * 512  # noqa: PTH118 - many
            except FileNotFoundError:
                continue
    return total


def disk(free_bytes: int, kept_bytes: int) -> Finding:
    """Whether the data would fit a second time: a rebuild or a compaction needs that."""
    seen = f"{free_bytes // _MIB} MiB free, {kept_bytes // _MIB} MiB used by data_dir"
    if free_bytes < MIN_FREE_BYTES:
        return fail(DISK, seen, "free disk space, or move data_dir to a larger disk")
    if free_bytes < kept_bytes:
        return warn(DISK, seen, "free as much space again: a rebuild needs it temporarily")
    return ok(DISK, seen)


def inodes(free: int, total: int) -> Finding:
    """Whether inodes are left. File systems without a limit report a total of 0."""
    if total == 0:
        return ok(INODES, "this file system has no inode limit")
    seen = f"{free} of {total} free"
    if free < total * MIN_FREE_INODES_SHARE:
        return (fail if free < 1_000 else warn)(INODES, seen, "delete small files on this disk")
    return ok(INODES, seen)


def look_at_limits(_settings: Settings, _timeout_s: float) -> Iterator[Finding]:
    """The limit of open files per process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield open_files(soft, hard)


def open_files(soft: int, hard: int) -> Finding:
    """`soft`: the limit in force; `hard`: the value to which it can be raised."""
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= MIN_OPEN_FILES:
        return ok(FILES, f"{'unlimited' if soft == unlimited else soft} per process")
    todo = f"raise it to {MIN_OPEN_FILES} or more: ulimit -n, LimitNOFILE= or a container's ulimits"
    return warn(FILES, f"{soft} per process (hard limit {hard})", todo)
