"""All members of a segment of 1,000,000 users as NDJSON, and pages of 1,000 of them.

    python -m bench.members

The view is filled from the real topics; only the http process runs. Memory is the peak of the
process during a stream minus its value before. Pages are requested one after another to the end, so
that they cover the whole segment. The client only counts.
"""

from __future__ import annotations

import http.client as http_client
import importlib.metadata
import statistics
import time
from typing import NamedTuple

import httpx
import orjson

from bench import _common as common
from bench import _view as view
from segments.settings import Settings

TARGET_S, TARGET_MEMORY_MB, TARGET_PAGE_P99_MS = 5, 50, 30
_SEGMENT = "EVERYBODY"
_PATH = f"/v1/segments/{_SEGMENT}/users"


class Stream(NamedTuple):
    """One stream as the client saw it."""

    seconds: float
    first_byte_s: float
    size_bytes: int
    peak_bytes: int
    cpu_s: float


def main() -> None:
    """Measure and print."""
    parser = common.arguments(__doc__, users=1_000_000, partitions=8, limit=1_000, rounds=3)
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
    ):
        view.fill(settings, options.users, segments=[_SEGMENT], each=1)
        http = view.start(settings)
        pages_ms = _pages(settings, options.users, options.limit)
        runs = [_stream(settings, http, options.users) for _ in range(options.rounds)]
    middle = Stream(*(statistics.median(each) for each in zip(*runs, strict=True)))
    print(
        f"all members: {middle.seconds:.2f} s (target {TARGET_S}; each "
        f"{' '.join(f'{run.seconds:.2f}' for run in runs)}), first byte {middle.first_byte_s:.2f} "
        f"s, server CPU {middle.cpu_s:.2f} s; peak memory above idle "
        f"{' '.join(f'{run.peak_bytes / 1e6:.0f}' for run in runs)} MB (target {TARGET_MEMORY_MB})"
    )
    print(
        f"page of {options.limit:,}: p50 {common.percentile(pages_ms, 0.5):.1f} ms, p99 "
        f"{common.percentile(pages_ms, 0.99):.1f} ms (target {TARGET_PAGE_P99_MS}), longest "
        f"{max(pages_ms):.1f} ms, {len(pages_ms)} pages"
    )
    print(
        common.conditions(
            members=f"{options.users:,}",
            size=f"{middle.size_bytes / 1e6:.0f} MB",
            partitions=options.partitions,
            aiohttp=importlib.metadata.version("aiohttp"),
        )
    )


def _pages(settings: Settings, members: int, limit: int) -> list[float]:
    """Milliseconds of each page from the first to the last."""
    times_ms: list[float] = []
    count, cursor = 0, None
    with httpx.Client(base_url=f"http://127.0.0.1:{settings.http.port}", timeout=60) as client:
        while cursor is not None or not times_ms:
            params = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
            started_s = time.perf_counter()
            answer = client.get(_PATH, params=params)
            times_ms.append((time.perf_counter() - started_s) * 1000)
            page = orjson.loads(answer.raise_for_status().content)
            count, cursor = count + len(page["items"]), page["next"]
    if count != members:
        raise common.BenchError(f"the pages have {count} of {members} members")
    return times_ms


def _stream(settings: Settings, http: common.Process, members: int) -> Stream:
    before_bytes, before_s = http.rss_bytes(), common.cpu_s(http.pid)
    http.reset_peak_rss()
    lines = size_bytes = 0
    first_byte_s = 0.0
    end = b""
    started_s = time.perf_counter()
    connection = http_client.HTTPConnection("127.0.0.1", settings.http.port, timeout=60)
    connection.request("GET", _PATH, headers={"Accept": "application/x-ndjson"})
    response = connection.getresponse()
    if response.status != http_client.OK:
        raise common.BenchError(response.read().decode())
    while chunk := response.read1(1 << 20):
        if not size_bytes:
            first_byte_s = time.perf_counter() - started_s
        lines += chunk.count(b"\n")
        size_bytes += len(chunk)
        end = (end + chunk)[-100:]
    connection.close()
    seconds = time.perf_counter() - started_s
    if lines != members + 1 or not end.endswith(b'{"count":%d}\n' % members):
        raise common.BenchError(f"{lines - 1} of {members} members received; the end: {end!r}")
    peak_bytes = http.peak_rss_bytes() - before_bytes
    spent_s = common.cpu_s(http.pid) - before_s
    return Stream(seconds, first_byte_s, size_bytes, peak_bytes, spent_s)


if __name__ == "__main__":
    main()
