"""Shared by the benchmarks: a broker, deployments, processes, and the conditions to print."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import importlib.metadata
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from segments.kafka import topics
from segments.kafka.embedded import EmbeddedKafka, tail
from segments.process.child import command
from segments.process.ports import free_port
from segments.settings import Settings
from segments.settings.environment import child_environment

T = TypeVar("T")
_PACKAGES = ("quixstreams", "confluent-kafka", "rocksdict", "orjson")
_STOP_TIMEOUT_S = 60.0


class BenchError(RuntimeError):
    """The measurement is invalid; the message says why."""


# --- broker and deployments ---


def arguments(description: str | None, **defaults: int) -> argparse.ArgumentParser:
    """A parser with an integer option for each default, and `--kafka` and `--work-dir`."""
    parser = argparse.ArgumentParser(description=description)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    parser.add_argument("--kafka", help="bootstrap servers; default: an embedded broker")
    parser.add_argument("--work-dir", type=Path, help="where temporary folders are created")
    return parser


@contextlib.contextmanager
def broker_and_folder(options: argparse.Namespace) -> Iterator[tuple[str, Path]]:
    """(bootstrap servers, an empty folder); the broker and the folder are removed at exit."""
    with tempfile.TemporaryDirectory(dir=options.work_dir, prefix="bench-") as name:
        folder = Path(name)
        if options.kafka:
            yield options.kafka, folder
            return
        kafka = EmbeddedKafka(folder / "broker")
        kafka.start()
        _brokers.append(kafka.pid)
        try:
            yield kafka.bootstrap_servers, folder
        finally:
            _brokers.remove(kafka.pid)
            kafka.kill()


_brokers: list[int] = []


def broker_cpu_s() -> float:
    """CPU time of the embedded broker so far; 0 for an external one."""
    return sum(cpu_s(pid) for pid in _brokers)


def cpu_s(pid: int) -> float:
    """CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


_deployment_count = 0


@contextlib.contextmanager
def deployment(
    bootstrap_servers: str, folder: Path, partitions: int, **overrides: Any
) -> Iterator[Settings]:
    """A new deployment with its topics; its processes and topics are removed at exit."""
    global _deployment_count  # noqa: PLW0603 - numbers the deployments of a run
    _deployment_count += 1
    settings = Settings(
        data_dir=folder / f"deployment-{_deployment_count}",
        partitions=partitions,
        kafka={
            "bootstrap_servers": bootstrap_servers,
            "prefix": f"b{os.getpid()}-{_deployment_count}.",
        },
        http={"port": free_port()},
        metrics={"enabled": False},
        log_level="warning",
        **overrides,
    )
    settings.data_dir.mkdir(parents=True)
    topics.apply(settings)
    before = len(_running)
    try:
        yield settings
    finally:
        while len(_running) > before:
            _running[-1].stop()
        _delete_topics(settings)


def _delete_topics(settings: Settings) -> None:
    admin = AdminClient(settings.client_config() | {"log_level": 0})
    names = [topic.on_cluster(settings) for topic in topics.load()]
    for future in admin.delete_topics(names, request_timeout=30).values():
        future.result(timeout=30)


# --- processes ---


class Process:
    """A child process whose output goes to a file."""

    def __init__(self, argv: list[str], environment: dict[str, str], log: Path, cwd: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command(argv),
                env=environment,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _running.append(self)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def check(self) -> None:
        """Raise BenchError with the end of its output if it exited with an error."""
        if self._popen.poll():
            raise BenchError(f"status {self._popen.returncode}:\n{tail(self._log)}")

    def wait(self, timeout_s: float) -> str:
        """Wait until it exits and return its output."""
        self._popen.wait(timeout_s)
        self.check()
        _running.remove(self)
        return self.output()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after a timeout."""
        _running.remove(self)
        self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def stop_and_read(self) -> str:
        """Stop it and return its output; BenchError if it exited with an error."""
        self.stop()
        self.check()
        return self.output()

    def output(self) -> str:
        """Its output so far."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def rss_bytes(self) -> int:
        """Resident memory now."""
        return self._status_kib("VmRSS") * 1024

    def peak_rss_bytes(self) -> int:
        """Peak resident memory since the start, or since `reset_peak_rss`."""
        return self._status_kib("VmHWM") * 1024

    def reset_peak_rss(self) -> None:
        """Reset the peak to the current value."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5", encoding="ascii")

    def _status_kib(self, field: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{field}:"):
                return int(line.split()[1])
        raise BenchError(f"no {field} of process {self.pid}")


_running: list[Process] = []


def start(settings: Settings, application: str) -> Process:
    """`segments run <application>` with these settings."""
    argv = [sys.executable, "-m", "segments.cli", "run", application]
    name = f"{application}-{settings.instance}.log"
    return Process(argv, child_environment(settings), settings.data_dir / name, Path.cwd())


def wait_until(predicate: Callable[[], T], timeout_s: float, what: str, poll_s: float = 0.1) -> T:
    """The first truthy value of `predicate`; BenchError if a process fails or time runs out."""
    deadline = time.monotonic() + timeout_s
    while True:
        for process in _running:
            process.check()
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise BenchError(f"timed out after {timeout_s:.0f} s waiting for {what}")
        time.sleep(poll_s)


# --- records ---


def user_ids(count: int) -> list[str]:
    """Random-looking ids, the same in every run."""
    text = [f"{(n * 0x9E3779B97F4A7C15F39CC0605CEDC835) % 2**128:032x}" for n in range(count)]
    return [f"{t[:8]}-{t[8:12]}-4{t[13:16]}-8{t[17:20]}-{t[20:]}" for t in text]


def bulk_producer(settings: Settings) -> Producer:
    return Producer(
        settings.client_config()
        | {
            "partitioner": "murmur2",
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 500_000,
        }
    )


def produce(producer: Producer, topic: str, value: bytes, key: str, **options: Any) -> None:
    """Produce; block while the queue of the producer is full."""
    while True:
        try:
            producer.produce(topic, value, key, **options)
        except BufferError:
            producer.poll(0.1)
        else:
            return


def flush(producer: Producer) -> None:
    if producer.flush(120):
        raise BenchError("the broker did not acknowledge all records")


# --- output ---


def conditions(**facts: Any) -> str:
    """One line: the facts that the figure depends on, the machine and the versions."""
    versions = " ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    kafka = next(_kafka_versions(), "unknown")
    shown = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items())
    now = dt.datetime.now(dt.UTC).isoformat(timespec="minutes")
    return (
        f"conditions: {shown}; {_cpu()}, {os.cpu_count()} cores, load before {_load_before:.1f}; "
        f"Python {platform.python_version()}, Kafka {kafka} on the same machine, {versions}; {now}"
    )


_load_before = os.getloadavg()[0]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _kafka_versions() -> Iterator[str]:
    lock = Path(topics.__file__).with_name("jars.lock")
    for line in lock.read_text(encoding="utf-8").splitlines():
        _, found, version = line.partition("kafka_2.13-")
        if found:
            yield version.removesuffix(".jar")


def percentile(values: list[float], share: float) -> float:
    """Percentile of non-empty `values` by the nearest-rank method; `share` is 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
