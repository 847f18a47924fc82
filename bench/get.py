"""GET /v1/users/{id}/segments from one http process, compared with a bare handler.

    python -m bench.get

The view is filled from the real topics; the baseline (bench/_bare.py) has the same documents. A
separate process generates the load, on one server and the other in turns; the ratio is the median
of the pairs. Server CPU is the CPU time of the server's process per response: unlike the rate, it
is hardly affected by other processes on the machine.
"""

from __future__ import annotations

import importlib.metadata
import statistics

from bench import _common as common
from bench import _view as view
from segments.process.ports import free_port

TARGET_RATIO = 0.8
TARGET_P99_MS = 5


def main() -> None:
    """Measure both in turns and print."""
    parser = common.arguments(
        __doc__, users=100_000, partitions=8, connections=16, seconds=5, rounds=5
    )
    options = parser.parse_args()
    shape = {
        "users": options.users,
        "connections": options.connections,
        "seconds": options.seconds,
    }
    ours: list[dict[str, float]] = []
    bare: list[dict[str, float]] = []
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
    ):
        view.fill(settings, options.users)
        http, bare_port = view.start(settings), free_port()
        handler = view.start_bare(settings, bare_port, options.users)
        for _ in range(options.rounds):
            bare.append(view.load(settings, "get", handler, bare_port, **shape))
            ours.append(view.load(settings, "get", http, settings.http.port, **shape))
    print(f"GET segments: {_summary(ours)} (target p99 < {TARGET_P99_MS} ms)")
    print(f"bare handler: {_summary(bare)}")
    ratios = [our["rate"] / its["rate"] for our, its in zip(ours, bare, strict=True)]
    cpu = [its["cpu_us"] / our["cpu_us"] for our, its in zip(ours, bare, strict=True)]
    print(
        f"ratio of rates: {statistics.median(ratios):.2f} (target {TARGET_RATIO}; "
        f"{min(ratios):.2f} to {max(ratios):.2f}), of server CPU: {statistics.median(cpu):.2f}"
    )
    print(
        common.conditions(
            users=f"{options.users:,}",
            segments_per_user=view.SEGMENTS_PER_USER,
            connections=options.connections,
            rounds=f"{options.rounds} x {options.seconds} s each",
            aiohttp=importlib.metadata.version("aiohttp"),
        )
    )


def _summary(runs: list[dict[str, float]]) -> str:
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return (
        f"{middle['rate']:,.0f} /s, p50 {middle['p50_ms']:.2f} ms, p99 {middle['p99_ms']:.2f} ms, "
        f"longest {max(run['max_ms'] for run in runs):.0f} ms, server CPU {middle['cpu_us']:.0f} µs"
    )


if __name__ == "__main__":
    main()
