"""Import of 1,000,000 users through POST /dev/users/import until the replica has all of them.

    python -m bench.import_users

http, users and shards run as in a deployment. The body is streamed from a prepared file; the time
counts from its first byte until the view shows the last user of each partition. Every user is
queried afterwards. The CPU time of each process shows where the work is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import orjson

from bench import _common as common
from bench import _pipeline as pipeline
from bench import _view as view
from segments.contracts.partitioning import partition_of
from segments.settings import Settings

TARGET_RATE = 15_000
_APPLICATIONS = ("users", "shards", "http")
_TIMEOUT_S = 1_800.0
_CHUNK_BYTES = 262_144
_QUERY_IDS = 10_000
_HEADERS = {"Content-Type": "application/x-ndjson"}


def main() -> None:
    """Measure and print."""
    parser = common.arguments(__doc__, users=1_000_000, partitions=8)
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(
            bootstrap_servers, folder, options.partitions, dev={"enabled": True}
        ) as settings,
        httpx.Client(base_url=pipeline.base_url(settings), timeout=_TIMEOUT_S) as client,
    ):
        users = common.user_ids(options.users)
        file = folder / "users.ndjson"
        with file.open("w", encoding="ascii") as lines:
            lines.writelines(f'{{"user_id":"{user}","state":"active"}}\n' for user in users)
        processes = {name: common.start(settings, name) for name in _APPLICATIONS}
        view.wait_for(f"{pipeline.base_url(settings)}/v1/segments")
        before = _cpu(processes)
        started_s = time.monotonic()
        _import(client, file, len(users))
        accepted_s = time.monotonic() - started_s
        _wait_for_last(settings, client, users)
        visible_s = time.monotonic() - started_s
        spent = {name: cpu_s - before[name] for name, cpu_s in _cpu(processes).items()}
        _check(client, users)
    print(f"import: {len(users) / visible_s:,.0f} users/s (target {TARGET_RATE:,})")
    print(f"all accepted after {accepted_s:.1f} s, visible in the replica after {visible_s:.1f} s")
    cpu_us = ", ".join(f"{name} {cpu_s / len(users) * 1e6:.0f}" for name, cpu_s in spent.items())
    print(f"CPU time per user, µs: {cpu_us}")
    print(
        common.conditions(
            users=f"{options.users:,}",
            partitions=options.partitions,
            applications=" ".join(_APPLICATIONS),
        )
    )


def _import(client: httpx.Client, file: Path, users: int) -> None:
    answer = client.post("/dev/users/import", content=_pieces(file), headers=_HEADERS)
    expected = {"accepted": users, "refused": 0, "errors": []}
    if answer.status_code != httpx.codes.OK or answer.json() != expected:
        raise common.BenchError(f"{answer.status_code}: {answer.text}")


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as body:
        while piece := body.read(_CHUNK_BYTES):
            yield piece


def _wait_for_last(settings: Settings, client: httpx.Client, users: list[str]) -> None:
    """Wait for the last user of each partition; a partition keeps the order of the import."""
    last = {partition_of(user_id, settings.partitions): user_id for user_id in users}
    for user_id in last.values():
        common.wait_until(
            partial(_known, client, [user_id]),
            _TIMEOUT_S,
            f"user {user_id}",
            poll_s=0.05,
        )


def _check(client: httpx.Client, users: list[str]) -> None:
    """BenchError unless the view shows every user."""
    known = sum(
        _known(client, users[start : start + _QUERY_IDS])
        for start in range(0, len(users), _QUERY_IDS)
    )
    if known != len(users):
        raise common.BenchError(f"{known} of {len(users)} users are visible")


def _known(client: httpx.Client, users: list[str]) -> int:
    """How many of these users are active in the view."""
    answer = client.post("/v1/memberships/query", json={"user_ids": users}).raise_for_status()
    return sum(item["account"] == "active" for item in orjson.loads(answer.content)["items"])


def _cpu(processes: dict[str, common.Process]) -> dict[str, float]:
    spent = {name: common.cpu_s(process.pid) for name, process in processes.items()}
    return spent | {"broker": common.broker_cpu_s()}


if __name__ == "__main__":
    main()
