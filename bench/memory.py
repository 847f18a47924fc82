"""Resident memory of one shards process that holds all users.

    python -m bench.memory

Measured after the commands that create the users, after a restart with the state folder, and after
a restart without it, which restores the state from the changelog.
"""

from __future__ import annotations

import shutil

from bench import _common as common
from bench import _log as log
from bench import restore
from segments.settings import Settings
from segments.streams import maintenance

TARGET_BYTES = 1_000_000_000
_TIMEOUT_S = 900.0


def main() -> None:
    """Measure and print."""
    parser = common.arguments(
        __doc__, users=1_000_000, partitions=8, touched=100_000, commit_interval_ms=200
    )
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(
            bootstrap_servers,
            folder,
            options.partitions,
            commit_interval_ms=options.commit_interval_ms,
        ) as settings,
    ):
        log.define_segments(settings, restore.SEGMENTS)
        changes: list[log.Change] = [
            (user_id, restore.SEGMENTS[:1], []) for user_id in common.user_ids(options.users)
        ]
        log.log_changes(settings, changes)
        runs = [_run(settings, "creating the users")]
        again: list[log.Change] = [
            (user_id, restore.SEGMENTS[1:2], []) for user_id, _, _ in changes
        ]
        log.log_changes(settings, again[: options.touched], first_id=options.users)
        runs.append(_run(settings, "a restart with the folder"))
        shutil.rmtree(maintenance.state_dir(settings))
        again = again[options.touched : 2 * options.touched]
        log.log_changes(settings, again, first_id=options.users + options.touched)
        runs.append(_run(settings, "a restart without it"))
    peak = max(peak for _, _, peak in runs)
    print(
        f"memory of a shards process: {peak / 1e6:,.0f} MB at most "
        f"(target {TARGET_BYTES / 1e6:,.0f})"
    )
    for what, resident, peak in runs:
        print(f"after {what}: {resident / 1e6:,.0f} MB, at most {peak / 1e6:,.0f} MB")
    print(
        common.conditions(
            users=f"{options.users:,}",
            changed_after_each_restart=f"{options.touched:,}",
            partitions=options.partitions,
        )
    )


def _run(settings: Settings, what: str) -> tuple[str, int, int]:
    """(what, resident, peak) once the process has applied the log."""
    process = log.start_shards(settings, _TIMEOUT_S)
    run = (what, process.rss_bytes(), process.peak_rss_bytes())
    process.stop()
    return run


if __name__ == "__main__":
    main()
