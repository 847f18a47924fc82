"""Memory of one shards process with 1,000,000 users and 20 segments of 10 %; rebuild time.

    python -m bench.shares_memory

Measured during the assignment of the segments, and after a restart with the state folder, for which
the process reads all documents and builds its index of the population: `rebuild` is the sum of
`rebuild_ms` that the shards log.
"""

from __future__ import annotations

import orjson

from bench import _common as common
from bench import _log as log
from segments.settings import Settings

TARGET_BYTES, TARGET_REBUILD_S = 1_500_000_000, 10
_TIMEOUT_S = 1_800.0


def main() -> None:
    """Measure and print."""
    parser = common.arguments(
        __doc__, users=1_000_000, segments=20, percent=10, partitions=8, commit_interval_ms=200
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
        log.log_users(settings, common.user_ids(options.users))
        process = log.start_shards(settings, _TIMEOUT_S)
        _create_segments(settings, options.segments, options.percent)
        assigning = (process.rss_bytes(), process.peak_rss_bytes())
        process.stop()
        again = log.start_shards(settings.model_copy(update={"log_level": "info"}), _TIMEOUT_S)
        rebuilds_ms = _rebuilds_ms(again, options.partitions)
        restarted = (again.rss_bytes(), again.peak_rss_bytes())
    peak = max(assigning[1], restarted[1])
    print(
        f"memory of a shards process: {peak / 1e6:,.0f} MB at most "
        f"(target {TARGET_BYTES / 1e6:,.0f})"
    )
    for what, (resident, most) in (("the assignment", assigning), ("a restart", restarted)):
        print(f"after {what}: {resident / 1e6:,.0f} MB, at most {most / 1e6:,.0f} MB")
    print(
        f"rebuild of the population: {sum(rebuilds_ms) / 1000:.1f} s (target {TARGET_REBUILD_S}), "
        f"{options.users / sum(rebuilds_ms) * 1000:,.0f} users/s"
    )
    print(
        common.conditions(
            users=f"{options.users:,}",
            segments=f"{options.segments} of {options.percent} %",
            partitions=options.partitions,
        )
    )


def _create_segments(settings: Settings, segments: int, percent: int) -> None:
    names = [f"SHARE_{number}" for number in range(segments)]
    for name in names:
        log.log_creation(settings, name, {"percent": percent})

    def all_active() -> bool:
        found = log.newest_definitions(settings)
        return all(found.get(name, {}).get("state") == "active" for name in names)

    common.wait_until(all_active, _TIMEOUT_S, "every segment", poll_s=1.0)


def _rebuilds_ms(process: common.Process, partitions: int) -> list[int]:
    """`rebuild_ms` of each shard, from its log."""
    rebuilds_ms = [
        orjson.loads(line)["rebuild_ms"]
        for line in process.output().splitlines()
        if '"shard_ready"' in line
    ]
    if len(rebuilds_ms) != partitions:
        raise common.BenchError(f"{len(rebuilds_ms)} of {partitions} shards are ready")
    return rebuilds_ms


if __name__ == "__main__":
    main()
