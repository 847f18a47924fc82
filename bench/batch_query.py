"""Rate of POST /v1/memberships/query to one http process, in users/s.

python -m bench.batch_query
"""

from __future__ import annotations

import importlib.metadata
import statistics

from bench import _common as common
from bench import _view as view

TARGET_USERS_PER_S = 100_000


def main() -> None:
    """Measure and print."""
    parser = common.arguments(
        __doc__, users=100_000, partitions=8, batch=1_000, connections=2, seconds=5, rounds=3
    )
    options = parser.parse_args()
    shape = {name: getattr(options, name) for name in ("users", "batch", "connections", "seconds")}
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
    ):
        view.fill(settings, options.users)
        http = view.start(settings)
        port = settings.http.port
        runs = [view.load(settings, "query", http, port, **shape) for _ in range(options.rounds)]
    rates = [run["rate"] * options.batch for run in runs]
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    print(
        f"memberships query: {statistics.median(rates):,.0f} users/s (target "
        f"{TARGET_USERS_PER_S:,}; {min(rates):,.0f} to {max(rates):,.0f}), per call p50 "
        f"{middle['p50_ms']:.1f} ms, p99 {middle['p99_ms']:.1f} ms, server CPU "
        f"{middle['cpu_us'] / options.batch:.1f} µs per user"
    )
    print(
        common.conditions(
            users=f"{options.users:,}",
            segments_per_user=view.SEGMENTS_PER_USER,
            ids_per_call=f"{options.batch:,}",
            connections=options.connections,
            rounds=f"{options.rounds} x {options.seconds} s",
            aiohttp=importlib.metadata.version("aiohttp"),
        )
    )


if __name__ == "__main__":
    main()
