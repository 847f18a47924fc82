"""Throughput of the shards application alone on a backlog, exactly once, with every output.

    python -m bench.shards_alone [--prototype DIR]

The backlog is written first. The rate is taken from the results' own timestamps, first to last, so
that starting the process does not count; every command must have exactly one result and every
applied change one history row. With `--prototype`, the prototype in DIR (the baseline: a document,
history record and changelog row per command) processes as many records on the same broker, before
and after, and the ratio is printed.
"""

from __future__ import annotations

import argparse
import random
import shutil
import statistics
import sys
from pathlib import Path

import orjson

from bench import _common as common
from bench import _log as log
from segments.settings import Settings

SEGMENTS = [f"SEG_{n}" for n in range(50)]
TARGET_RATIO = 0.5
TARGET_RATE = 10_000
_PROTOTYPE_ADDRESS = "127.0.0.1:19092"
_PROTOTYPE_PARTITIONS = 4
_TIMEOUT_S = 600.0


def main() -> None:
    """Measure, in turns with the prototype if there is one, and print."""
    parser = common.arguments(
        __doc__, records=200_000, users=50_000, partitions=4, rounds=1, commit_interval_ms=50
    )
    parser.add_argument("--prototype", type=Path, help="folder of the prototype")
    options = parser.parse_args()
    rates: list[float] = []
    prototype: list[float] = []
    with common.broker_and_folder(options) as (bootstrap_servers, folder):
        for number in range(options.rounds):
            if options.prototype:
                prototype.append(_prototype(options, bootstrap_servers, folder / f"a{number}"))
            rates.append(_measure(options, bootstrap_servers, folder))
            if options.prototype:
                prototype.append(_prototype(options, bootstrap_servers, folder / f"b{number}"))
    rate = statistics.median(rates)
    print(f"shards alone: {rate:,.0f} records/s (target {TARGET_RATE:,}){_all(rates)}")
    if prototype:
        baseline = statistics.median(prototype)
        print(f"prototype: {baseline:,.0f} records/s{_all(prototype)}")
        print(f"ratio: {rate / baseline:.2f} (target {TARGET_RATIO})")
    print(
        common.conditions(
            records=f"{options.records:,}",
            users=f"{options.users:,}",
            partitions=options.partitions,
            commit_interval=f"{options.commit_interval_ms} ms",
            outputs="changelog + document + history + result",
        )
    )


def _all(rates: list[float]) -> str:
    return "" if len(rates) == 1 else " median of " + " ".join(f"{rate:,.0f}" for rate in rates)


def _measure(options: argparse.Namespace, bootstrap_servers: str, folder: Path) -> float:
    records, users = options.records, options.users
    with common.deployment(
        bootstrap_servers,
        folder,
        options.partitions,
        commit_interval_ms=options.commit_interval_ms,
    ) as settings:
        log.define_segments(settings, SEGMENTS)
        log.log_changes(settings, _changes(records, users))
        log.start_shards(settings, _TIMEOUT_S).stop()
        return _rate(settings, records)


def _changes(records: int, users: int) -> list[log.Change]:
    chooser = random.Random(1)
    ids = common.user_ids(users)
    changes = []
    for _ in range(records):
        segment = [chooser.choice(SEGMENTS)]
        added = chooser.random() < 0.7
        changes.append((chooser.choice(ids), segment if added else [], [] if added else segment))
    return changes


def _rate(settings: Settings, records: int) -> float:
    """Records/s; BenchError unless each command has exactly one result."""
    answered: set[str] = set()
    changes = 0
    times: list[int] = []
    for message in log.read_all(settings, settings.topic("segments.results")):
        result = orjson.loads(message.value())
        if result["command_id"] in answered:
            raise common.BenchError(f"two results of {result['command_id']}")
        answered.add(result["command_id"])
        changes += len(result["changes"])
        times.append(message.timestamp()[1])
    rows = sum(1 for _ in log.read_all(settings, settings.topic("segments.history")))
    if len(answered) != records or rows != changes:
        raise common.BenchError(
            f"{len(answered)} of {records} results, {rows} history rows for {changes} changes"
        )
    return records / (max(times) - min(times)) * 1000


def _prototype(options: argparse.Namespace, bootstrap_servers: str, folder: Path) -> float:
    """Records/s as the prototype reports it, run on this broker."""
    shutil.copytree(options.prototype, folder)
    for script in folder.glob("*.py"):
        text = script.read_text(encoding="utf-8")
        script.write_text(text.replace(_PROTOTYPE_ADDRESS, bootstrap_servers), encoding="utf-8")
    records, users = options.records, options.users
    _script(folder, ["topics.py"])
    _script(folder, ["load.py", str(records), str(users)])
    seconds = str(options.commit_interval_ms / 1000)
    environment = {"CI": seconds, "GRP": f"prototype-{folder.name}", "STOP": str(records)}
    output = _script(folder, ["shard.py"], environment)
    final = [line.split() for line in output.splitlines() if line.startswith("final")]
    return float(final[0][2])


def _script(folder: Path, argv: list[str], environment: dict[str, str] | None = None) -> str:
    path = {"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
    process = common.Process(
        [sys.executable, *argv], path | (environment or {}), folder / f"{argv[0]}.log", folder
    )
    return process.wait(_TIMEOUT_S)


if __name__ == "__main__":
    main()
