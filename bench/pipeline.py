"""Throughput of router, shards, history and view together.

    python -m bench.pipeline

All applications run as in a deployment. The commands are produced at once; the time counts from the
first of them until the last is visible over HTTP and its history row is in the store. Every command
must have exactly one result, every change one row. The CPU time of each process shows where the
work is.
"""

from __future__ import annotations

import sqlite3
import time
from typing import NamedTuple

import httpx
import orjson
from confluent_kafka import Consumer, TopicPartition

from bench import _common as common
from bench import _pipeline as pipeline
from segments.settings import Settings
from segments.state.history.sqlite import database_path

TARGET_RATE = 5_000
_TIMEOUT_S = 600.0


class Results(NamedTuple):
    """Records of segments.results: number of changes, and {partition: last offset}."""

    changes: int
    positions: dict[int, int]


def main() -> None:
    """Measure and print."""
    parser = common.arguments(__doc__, commands=100_000, users=50_000, partitions=8)
    options = parser.parse_args()
    with (
        common.broker_and_folder(options) as (bootstrap_servers, folder),
        common.deployment(bootstrap_servers, folder, options.partitions) as settings,
        httpx.Client(base_url=pipeline.base_url(settings), timeout=60) as client,
    ):
        processes = pipeline.start(settings, client)
        users = common.user_ids(options.users)
        commands = list(pipeline.changes(users, 0, options.commands, seed=1))
        reader = _reader(settings)
        before = _cpu(processes)
        started_s = time.monotonic()
        producer = common.bulk_producer(settings)
        for command in commands:
            pipeline.send(settings, producer, command)
        common.flush(producer)
        produced_s = time.monotonic() - started_s
        results = _read_results(reader, options.commands)
        decided_s = time.monotonic() - started_s
        pipeline.wait_until_visible(client, commands[-1][0], results.positions)
        visible_s = time.monotonic() - started_s
        _wait_for_rows(settings, results.changes)
        stored_s = time.monotonic() - started_s
        spent = {name: cpu - before[name] for name, cpu in _cpu(processes).items()}
    rate = options.commands / max(visible_s, stored_s)
    print(f"pipeline: {rate:,.0f} commands/s (target {TARGET_RATE:,})")
    print(
        f"all produced after {produced_s:.1f} s, decided {decided_s:.1f} s, "
        f"visible {visible_s:.1f} s, in the history store {stored_s:.1f} s"
    )
    cpu_us = ", ".join(f"{n} {cpu / options.commands * 1e6:.0f}" for n, cpu in spent.items())
    print(f"CPU time per command, µs: {cpu_us}")
    print(
        common.conditions(
            commands=f"{options.commands:,}",
            users=f"{options.users:,}",
            partitions=options.partitions,
            applications=" ".join(pipeline.APPLICATIONS),
        )
    )


def _cpu(processes: dict[str, common.Process]) -> dict[str, float]:
    spent = {name: common.cpu_s(process.pid) for name, process in processes.items()}
    return spent | {"broker": common.broker_cpu_s()}


def _reader(settings: Settings) -> Consumer:
    """A consumer at the end of segments.results."""
    consumer = Consumer(
        settings.client_config()
        | {
            "group.id": "bench-reads",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
        }
    )
    topic = settings.topic("segments.results")
    ends = [
        TopicPartition(topic, p, consumer.get_watermark_offsets(TopicPartition(topic, p))[1])
        for p in range(settings.partitions)
    ]
    consumer.assign(ends)
    return consumer


def _read_results(consumer: Consumer, commands: int) -> Results:
    answered: set[str] = set()
    changes = 0
    positions: dict[int, int] = {}
    deadline = time.monotonic() + _TIMEOUT_S
    while len(answered) < commands:
        if time.monotonic() > deadline:
            raise common.BenchError(f"{len(answered)} of {commands} results")
        for message in consumer.consume(10_000, 0.1):
            if message.error() is not None:
                raise common.BenchError(str(message.error()))
            result = orjson.loads(message.value())
            if result["command_id"] in answered:
                raise common.BenchError(f"two results of {result['command_id']}")
            answered.add(result["command_id"])
            changes += len(result["changes"])
            partition, _, offset = result["position"].partition(":")
            positions[int(partition)] = max(int(offset), positions.get(int(partition), -1))
    consumer.close()
    return Results(changes, positions)


def _wait_for_rows(settings: Settings, rows: int) -> None:
    with sqlite3.connect(f"file:{database_path(settings)}?mode=ro", uri=True) as store:

        def stored() -> bool:
            [(count,)] = store.execute("SELECT count(*) FROM history").fetchall()
            if count > rows:
                raise common.BenchError(f"{count} history rows for {rows} changes")
            return bool(count == rows)

        common.wait_until(stored, _TIMEOUT_S, f"{rows} history rows")
    store.close()


if __name__ == "__main__":
    main()
