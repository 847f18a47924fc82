"""Latency from producing a command until it is visible over HTTP, and of a single PATCH.

    python -m bench.latency

All applications run as in a deployment. Commands are produced at a steady rate. A sample of them,
each for a different user, is polled with GETs every few milliseconds until the response shows the
segment. The first seconds do not count: the JVM of the broker still compiles its code then, on the
same cores. Afterwards, without other load, PATCH requests that wait for their result follow one
another.
"""

from __future__ import annotations

import time

import httpx

from bench import _common as common
from bench import _pipeline as pipeline
from bench import _view as view
from bench._probe import VisibilityProbe

TARGET_P50_MS, TARGET_P99_MS, TARGET_PATCH_P50_MS = 100, 250, 80
_WARM_UP_S = 20
_PATCHED_SEGMENT = "PATCHED"


def main() -> None:
    """Measure and print."""
    parser = common.arguments(
        __doc__, rate=1_000, sampled_rate=25, seconds=60, users=5_000, partitions=8, patches=200
    )
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
        httpx.Client(base_url=pipeline.base_url(settings), timeout=60) as client,
    ):
        pipeline.start(settings, client)
        count = options.rate * options.seconds
        ids = common.user_ids(options.users + options.sampled_rate * options.seconds)
        probe = VisibilityProbe(settings, client, view.SEGMENTS[0])
        probe.run(
            pipeline.changes(ids[: options.users], 0, count, seed=1),
            ids[options.users :],
            options.rate,
            options.rate // options.sampled_rate,
        )
        patches_ms = _patch(client, common.user_ids(options.patches))
    visible_ms = probe.visible_ms[_WARM_UP_S * options.sampled_rate :]
    print(
        f"command produced -> visible: p50 {common.percentile(visible_ms, 0.5):.0f} ms (target "
        f"{TARGET_P50_MS}), p99 {common.percentile(visible_ms, 0.99):.0f} ms (target "
        f"{TARGET_P99_MS}), longest {max(visible_ms):.0f} ms, {len(visible_ms)} sampled, "
        f"at {probe.rate:,.0f} commands/s"
    )
    print(
        f"PATCH with its result, one at a time: p50 {common.percentile(patches_ms, 0.5):.0f} ms "
        f"(target {TARGET_PATCH_P50_MS}), p99 {common.percentile(patches_ms, 0.99):.0f} ms"
    )
    print(
        common.conditions(
            rate=f"{options.rate:,}/s for {options.seconds} s",
            warm_up=f"{_WARM_UP_S} s",
            users=f"{options.users:,}",
            partitions=options.partitions,
            applications=" ".join(pipeline.APPLICATIONS),
            poll_interval="5 ms",
        )
    )


def _patch(client: httpx.Client, users: list[str]) -> list[float]:
    """Milliseconds of each PATCH; every one changes memberships."""
    client.post("/v1/segments", json={"segment": _PATCHED_SEGMENT}).raise_for_status()
    times_ms = []
    for user_id in users:
        started_s = time.monotonic()
        answer = client.patch(f"/v1/users/{user_id}/segments", json={"add": [_PATCHED_SEGMENT]})
        times_ms.append((time.monotonic() - started_s) * 1000)
        if answer.status_code != httpx.codes.OK or answer.json()["status"] != "applied":
            raise common.BenchError(f"{answer.status_code}: {answer.text}")
    return times_ms


if __name__ == "__main__":
    main()
