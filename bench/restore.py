"""Restore of shards from their changelog after the state folder was removed.

    python -m bench.restore

The time of a start with the folder (imports, joining the group, building the machines from their
documents) is measured too and subtracted. The restored state must equal the removed one, document
by document.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import orjson

from bench import _common as common
from bench import _log as log
from segments.settings import Settings
from segments.state.machine.digest import digest
from segments.state.machine.documents import USER_PREFIX
from segments.state.rocksdb import open_database, scan
from segments.streams import maintenance, startup_checks

TARGET_RATE = 60_000
SEGMENTS = [f"SEG_{n}" for n in range(50)]
_TIMEOUT_S = 900.0


def main() -> None:
    """Measure and print."""
    parser = common.arguments(__doc__, users=400_000, commands_per_user=1, partitions=8)
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(
            bootstrap_servers, folder, options.partitions, commit_interval_ms=200
        ) as settings,
    ):
        fill(settings, options.users, options.commands_per_user)
        before = _digests(settings)
        warm_s = _start_and_stop(settings, "warm")
        shutil.rmtree(maintenance.state_dir(settings))
        cold_s = _start_and_stop(settings, "cold")
        if _digests(settings) != before:
            raise common.BenchError("the restored state differs from the removed one")
        rows, size = _changelog(settings)
    restore_s = cold_s - warm_s
    print(
        f"restore: {rows / restore_s:,.0f} rows/s (target {TARGET_RATE:,}), "
        f"{size / restore_s / 1e6:.0f} MB/s"
    )
    print(
        f"{rows:,} rows of {size / rows:.0f} bytes in {restore_s:.1f} s; start to ready with the "
        f"folder {warm_s:.1f} s, without it {cold_s:.1f} s"
    )
    print(
        common.conditions(
            users=f"{options.users:,}",
            commands_per_user=options.commands_per_user,
            partitions=options.partitions,
        )
    )


def fill(settings: Settings, users: int, commands_per_user: int) -> None:
    """Build a state in which every user had `commands_per_user` commands; stop the process."""
    log.define_segments(settings, SEGMENTS)
    ids = common.user_ids(users)
    for turn in range(commands_per_user):
        name = [SEGMENTS[turn % len(SEGMENTS)]]
        changes: list[log.Change] = [(user_id, name, []) for user_id in ids]
        log.log_changes(settings, changes, first_id=turn * users)
    log.start_shards(settings, _TIMEOUT_S).stop()


def _start_and_stop(settings: Settings, name: str) -> float:
    """Seconds from the start of the process until every shard was ready."""
    verbose = settings.model_copy(update={"log_level": "info"})
    started_s = time.monotonic()
    process = common.start(verbose, "shards")
    output = verbose.data_dir / "shards-0.log"

    def ready() -> bool:
        return output.read_text(encoding="utf-8").count('"shard_ready"') == verbose.partitions

    common.wait_until(ready, _TIMEOUT_S, f"{name} start", poll_s=0.02)
    took_s = time.monotonic() - started_s
    process.stop()
    return took_s


def _digests(settings: Settings) -> list[str]:
    """The digest of the users of each shard."""
    found = []
    for partition in range(settings.partitions):
        path = maintenance.state_dir(settings) / str(partition)
        found.append(_digest(path))
    return found


def _digest(path: Path) -> str:
    database = open_database(path, read_only=True)
    try:
        return digest((key, orjson.loads(value)) for key, value in scan(database, USER_PREFIX))
    finally:
        database.close()


def _changelog(settings: Settings) -> tuple[int, int]:
    """(rows, bytes of their keys and values)"""
    rows = size = 0
    for message in log.read_all(settings, startup_checks.changelog_topic(settings)):
        rows += 1
        size += len(message.key()) + len(message.value() or b"")
    return rows, size


if __name__ == "__main__":
    main()
