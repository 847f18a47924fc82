"""Writes the topics of the view as shards do, and starts the sidecar, baseline and load."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import orjson

from bench import _common as common
from segments.contracts.partitioning import partition_of
from segments.contracts.topics import PROGRESS_KEY_PREFIX
from segments.settings import Settings

SEGMENTS = [f"SEG_{n}" for n in range(50)]
SEGMENTS_PER_USER = 5
_DAY_MS = 86_400_000
_READY_TIMEOUT_S = 300.0
_LOAD_TIMEOUT_S = 300.0


def documents(
    settings: Settings,
    users: int,
    segments: Sequence[str] = SEGMENTS,
    each: int = SEGMENTS_PER_USER,
) -> Iterator[tuple[str, bytes]]:
    """(user id, document): each user has `each` segments, one of them with an expiry."""
    chooser = random.Random(1)
    now_ms = time.time_ns() // 1_000_000
    for number, user_id in enumerate(common.user_ids(users)):
        since_ms = now_ms - chooser.randrange(30 * _DAY_MS)
        held = {
            name: {
                "since": since_ms + place,
                "expires_at": None if place else now_ms + 30 * _DAY_MS,
                "origin": "command",
                "generation": 1,
            }
            for place, name in enumerate(chooser.sample(segments, each))
        }
        document = {
            "user_id": user_id,
            "account": "active",
            "segments": held,
            "position": f"{partition_of(user_id, settings.partitions)}:{number}",
            "at": since_ms + each,
        }
        yield user_id, orjson.dumps(document)


def fill(
    settings: Settings,
    users: int,
    segments: Sequence[str] = SEGMENTS,
    each: int = SEGMENTS_PER_USER,
) -> None:
    """Write definitions, documents and a progress marker for each partition."""
    producer = common.bulk_producer(settings)
    defined: dict[int, int] = {}
    for number, name in enumerate(segments):
        partition = partition_of(name, settings.partitions)
        defined[partition] = number
        definition = {
            "segment": name,
            "generation": 1,
            "version": 1,
            "state": "active",
            "description": None,
            "created_at": 0,
            "auto": None,
            "position": f"{partition}:{number}",
        }
        topic = settings.topic("segments.definitions")
        common.produce(producer, topic, orjson.dumps(definition), name)
    topic = settings.topic("segments.users")
    for user_id, document in documents(settings, users, segments, each):
        common.produce(producer, topic, document, user_id)
        producer.poll(0)
    common.flush(producer)
    write_markers(settings, dict.fromkeys(range(settings.partitions), users), defined)


def write_markers(
    settings: Settings,
    log_offsets: dict[int, int],
    defined: dict[int, int],
    history_rows: dict[int, int] | None = None,
) -> None:
    """Write a progress marker with the current time for each partition."""
    producer = common.bulk_producer(settings)
    for partition, log_offset in log_offsets.items():
        now_ms = time.time_ns() // 1_000_000
        marker = {
            "log_offset": log_offset,
            "log_time": now_ms,
            "at": now_ms,
            "history_rows": (history_rows or {}).get(partition, 0),
            "defined": defined.get(partition, -1),
        }
        key = f"{PROGRESS_KEY_PREFIX}{partition}"
        topic = settings.topic("segments.users")
        common.produce(producer, topic, orjson.dumps(marker), key, partition=partition)
    common.flush(producer)


def start(settings: Settings) -> common.Process:
    """Start the http process and wait until it serves a user's segments."""
    process = common.start(settings, "http")
    user_id = common.user_ids(1)[0]
    wait_for(f"http://127.0.0.1:{settings.http.port}/v1/users/{user_id}/segments")
    return process


def start_bare(settings: Settings, port: int, users: int) -> common.Process:
    """Start the baseline with the same documents and wait until it serves them."""
    lines = settings.data_dir / "documents.ndjson"
    with lines.open("wb") as file:
        file.writelines(document + b"\n" for _, document in documents(settings, users))
    folder = settings.data_dir / "bare"
    process = module(
        settings,
        "_bare",
        ["--port", str(port), "--folder", str(folder), "--documents", str(lines)],
    )
    wait_for(f"http://127.0.0.1:{port}/v1/users/{common.user_ids(1)[0]}/segments")
    return process


def wait_for(url: str) -> None:
    """Wait until the URL returns 200."""
    with httpx.Client(timeout=30) as client:

        def succeeds() -> bool:
            try:
                return client.get(url).status_code == httpx.codes.OK
            except httpx.TransportError:
                return False

        common.wait_until(succeeds, _READY_TIMEOUT_S, url)


def module(settings: Settings, name: str, argv: list[str]) -> common.Process:
    """`python -m bench.<name>` as a process of the deployment."""
    log = settings.data_dir / f"{name}-{time.monotonic_ns()}.log"
    command = [sys.executable, "-m", f"bench.{name}", *argv]
    return common.Process(command, dict(os.environ), log, Path.cwd())


def load(
    settings: Settings, kind: str, server: common.Process, port: int, **options: Any
) -> dict[str, float]:
    """Run `bench._load` and return its figures, with the server's CPU time per response in µs."""
    before_s = cpu_s(server)
    figures = parse_load(start_load(settings, kind, port, **options).wait(_LOAD_TIMEOUT_S))
    figures["cpu_us"] = (cpu_s(server) - before_s) / figures["answered"] * 1e6
    return figures


def start_load(settings: Settings, kind: str, port: int, **options: Any) -> common.Process:
    """Start `bench._load` as a process."""
    argv = [kind, "--port", str(port)]
    for name, value in options.items():
        argv += [f"--{name}", str(value)]
    return module(settings, "_load", argv)


def parse_load(output: str) -> dict[str, float]:
    """The figures that `bench._load` printed, with the rate in requests/s."""
    figures: dict[str, float] = orjson.loads(output.splitlines()[-1])
    figures["rate"] = figures["requests"] / figures["elapsed_s"]
    return figures


def cpu_s(process: common.Process) -> float:
    """CPU time that a process has used so far."""
    fields = (
        Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    )
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
