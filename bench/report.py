"""Time and memory of the http process for a monthly CSV of 1,000,000 rows.

    python -m bench.report

The rows are written by the history store's own writer; the progress markers announce exactly as
many, so that the report is complete. Memory is the peak of the process during a download minus its
value before. The client only counts lines.
"""

from __future__ import annotations

import http.client as http_client
import importlib.metadata
import random
import sqlite3
import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlsplit

from bench import _common as common
from bench import _view as view
from segments.kafka.clients import topic_ids
from segments.settings import Settings
from segments.state.history.protocol import StoredRow
from segments.state.history.sqlite import open_writer

TARGET_S = 3
_APPENDED = 20_000
_DAY_MS = 86_400_000
_MIB = 1024 * 1024


class Download(NamedTuple):
    """One report as the client saw it."""

    seconds: float
    first_byte_s: float
    size_bytes: int
    peak_bytes: int
    cpu_s: float


def main() -> None:
    """Measure and print."""
    parser = common.arguments(__doc__, rows=1_000_000, users=100_000, partitions=8, rounds=3)
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
    ):
        month, rows = _write(settings, options.rows, options.users)
        view.fill(settings, 1_000)
        view.write_markers(settings, dict.fromkeys(rows, 1_000_000), {}, rows)
        http = view.start(settings)
        url = f"http://127.0.0.1:{settings.http.port}/v1/reports/{month}.csv"
        view.wait_for(f"{url}?user_id={common.user_ids(1)[0]}")
        runs = [_download(url, http, options.rows) for _ in range(options.rounds)]
    middle = Download(*(statistics.median(each) for each in zip(*runs, strict=True)))
    print(
        f"report: {middle.seconds:.2f} s (target {TARGET_S}; each "
        f"{' '.join(f'{run.seconds:.2f}' for run in runs)}), first byte {middle.first_byte_s:.2f} "
        f"s, server CPU {middle.cpu_s:.2f} s; peak memory above idle "
        f"{' '.join(f'{run.peak_bytes / _MIB:.0f}' for run in runs)} MiB"
    )
    print(
        common.conditions(
            rows=f"{options.rows:,}",
            size=f"{middle.size_bytes / _MIB:.0f} MiB",
            partitions=options.partitions,
            SQLite=sqlite3.sqlite_version,
            aiohttp=importlib.metadata.version("aiohttp"),
        )
    )


def _write(settings: Settings, count: int, users: int) -> tuple[str, dict[int, int]]:
    """Write a history spread over last month; returns (month, rows by partition)."""
    first = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    month = (first - timedelta(days=1)).replace(day=1)
    begin_ms = int(month.timestamp() * 1000)
    span_ms = 28 * _DAY_MS
    ids, chooser = common.user_ids(users), random.Random(1)
    topic_id = topic_ids(settings, ["segments.history"])["segments.history"]
    writer = open_writer(settings, topic_id)
    rows = {}
    try:
        for partition in range(settings.partitions):
            rows[partition] = len(range(partition, count, settings.partitions))
            entries = [
                StoredRow(
                    partition=partition,
                    offset=offset,
                    at_ms=begin_ms + span_ms * offset // rows[partition],
                    user_id=chooser.choice(ids),
                    segment=chooser.choice(view.SEGMENTS),
                    generation=1,
                    operation="add" if chooser.random() < 0.7 else "remove",
                    cause="command",
                    command_id=f"command-{partition}-{offset}",
                    actor=None,
                    expires_at_ms=None,
                )
                for offset in range(rows[partition])
            ]
            for start in range(0, len(entries), _APPENDED):
                batch = entries[start : start + _APPENDED]
                writer.append(partition, batch, batch[-1].offset + 1)
    finally:
        writer.close()
    return f"{month:%Y-%m}", rows


def _download(url: str, http: common.Process, expected: int) -> Download:
    before_bytes, before_s = http.rss_bytes(), view.cpu_s(http)
    http.reset_peak_rss()
    address = urlsplit(url)
    lines = size_bytes = 0
    first_byte_s = 0.0
    started_s = time.perf_counter()
    connection = http_client.HTTPConnection(address.netloc, timeout=60)
    connection.request("GET", address.path)
    response = connection.getresponse()
    if response.status != http_client.OK:
        raise common.BenchError(response.read().decode())
    while chunk := response.read1(1 << 20):
        if not size_bytes:
            first_byte_s = time.perf_counter() - started_s
        lines += chunk.count(b"\n")
        size_bytes += len(chunk)
    connection.close()
    seconds = time.perf_counter() - started_s
    if lines != expected:
        raise common.BenchError(f"received {lines} of {expected} rows")
    return Download(
        seconds,
        first_byte_s,
        size_bytes,
        http.peak_rss_bytes() - before_bytes,
        view.cpu_s(http) - before_s,
    )


if __name__ == "__main__":
    main()
