"""Memory of one http process with a view of 1,000,000 users, and the rate of filling it.

python -m bench.view_memory
"""

from __future__ import annotations

import time

from bench import _common as common
from bench import _view as view

TARGET_MIB = 500
_MIB = 1024 * 1024


def main() -> None:
    """Measure and print."""
    parser = common.arguments(__doc__, users=1_000_000, partitions=8, connections=16, seconds=20)
    options = parser.parse_args()
    shape = {name: getattr(options, name) for name in ("users", "connections", "seconds")}
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
    ):
        view.fill(settings, options.users)
        started_s = time.monotonic()
        http = view.start(settings)
        filled_s = time.monotonic() - started_s
        filled, peak = http.rss_bytes(), http.peak_rss_bytes()
        run = view.load(settings, "get", http, settings.http.port, **shape)
        read, read_peak = http.rss_bytes(), http.peak_rss_bytes()
        http.stop()
        started_s = time.monotonic()
        again = view.start(settings)
        opened_s = time.monotonic() - started_s
        reopened = again.rss_bytes()
    print(
        f"memory of http: filled {filled / _MIB:.0f} MiB (peak {peak / _MIB:.0f}), after "
        f"{run['answered']:,.0f} GETs {read / _MIB:.0f} MiB (peak {read_peak / _MIB:.0f}), "
        f"restarted {reopened / _MIB:.0f} MiB (target {TARGET_MIB})"
    )
    print(
        f"filled from the topics in {filled_s:.1f} s, {options.users / filled_s:,.0f} users/s; "
        f"restarted in {opened_s:.1f} s; GET {run['rate']:,.0f} /s"
    )
    print(
        common.conditions(
            users=f"{options.users:,}",
            segments_per_user=view.SEGMENTS_PER_USER,
            partitions=options.partitions,
            connections=options.connections,
        )
    )


if __name__ == "__main__":
    main()
