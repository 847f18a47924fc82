"""Latency of POST /v1/segments/preview over 1,000,000 users with two filters.

    python -m bench.preview

All applications run as in a deployment. `include` names a segment of half of the users, `exclude`
one of a tenth; the counts are compared with an independent computation. One request at a time,
without other load.
"""

from __future__ import annotations

import time

import httpx

from bench import _common as common
from bench import _pipeline as pipeline
from bench import _population as population

TARGET_MS = 300
_PERCENT = 10
_INCLUDED, _EXCLUDED = ("HALF", 50), ("TENTH", 10)


def main() -> None:
    """Measure and print."""
    parser = common.arguments(__doc__, users=1_000_000, partitions=8, requests=50)
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
        httpx.Client(base_url=pipeline.base_url(settings), timeout=60) as client,
    ):
        users = common.user_ids(options.users)
        population.start(settings, users, client)
        for name, percent in (_INCLUDED, _EXCLUDED):
            population.create_segment(client, name, {"percent": percent})
        expected = _expected(users)
        times_ms = [_preview(client, expected) for _ in range(options.requests)]
    print(
        f"preview: p50 {common.percentile(times_ms, 0.5):.0f} ms, p99 "
        f"{common.percentile(times_ms, 0.99):.0f} ms (target {TARGET_MS}); exact: "
        f"{expected['eligible']:,} eligible, {expected['target']:,} of them would be selected"
    )
    print(
        common.conditions(
            users=f"{options.users:,}",
            partitions=options.partitions,
            requests=f"{options.requests}, one at a time",
            applications=" ".join(pipeline.APPLICATIONS),
        )
    )


def _expected(users: list[str]) -> dict[str, int]:
    included, excluded = (
        population.expected_members(name, users, population.share_size(len(users), percent))
        for name, percent in (_INCLUDED, _EXCLUDED)
    )
    eligible = len(included - excluded)
    return {"eligible": eligible, "target": population.share_size(eligible, _PERCENT)}


def _preview(client: httpx.Client, expected: dict[str, int]) -> float:
    """Milliseconds until the response; BenchError unless it is the expected one."""
    rule = {"percent": _PERCENT, "include": [_INCLUDED[0]], "exclude": [_EXCLUDED[0]]}
    started_s = time.monotonic()
    answer = client.post("/v1/segments/preview", json={"auto": rule})
    took_ms = (time.monotonic() - started_s) * 1000
    if answer.status_code != httpx.codes.OK or answer.json() != expected:
        raise common.BenchError(f"expected {expected}, got {answer.status_code}: {answer.text}")
    return took_ms


if __name__ == "__main__":
    main()
