"""Helpers for tests of running processes: deployments, child processes, waiting."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
from confluent_kafka.admin import AdminClient

from segments.kafka import topics
from segments.kafka.embedded import tail
from segments.process.child import command
from segments.process.ports import free_port
from segments.settings import Settings
from segments.settings.environment import child_environment

T = TypeVar("T")
STOP_TIMEOUT_S = 30.0
EXIT_TIMEOUT_S = 60.0
_POLL_S = 0.02
PARTITIONS = 4


class Process:
    """A child process with its log in a file."""

    def __init__(self, name: str, argv: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log_file = log
        with log.open("ab") as output:
            self._popen = subprocess.Popen(
                command(argv),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def exit_status(self) -> int | None:
        """None while it runs."""
        return self._popen.poll()

    def log(self) -> str:
        """The end of what it printed."""
        return tail(self.log_file, lines=80)

    def signal(self, number: int) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, like a crash."""
        self._popen.kill()
        self._popen.wait()

    def wait(self, timeout_s: float = EXIT_TIMEOUT_S) -> int:
        """Wait for its exit status; TimeoutExpired if it keeps running."""
        return self._popen.wait(timeout_s)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, then SIGKILL after the timeout; returns the exit status (negative = signal)."""
        if self._popen.poll() is None:
            self._popen.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._popen.wait(timeout_s)
            self.kill()
        return self._popen.returncode


def gone(pid: int) -> bool:
    """Whether a process has exited; a zombie has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


_running: dict[Path, list[Process]] = {}


def processes() -> list[Process]:
    """Every process started for a deployment that has not ended."""
    return [process for group in _running.values() for process in group]


def start(settings: Settings, application: str, *, label: str = "") -> Process:
    """`segments run <application>` with these settings; stopped when its deployment ends."""
    argv = [sys.executable, "-m", "segments.cli", "run", application]
    return start_command(settings, label or f"{application}-{settings.instance}", argv)


def start_command(settings: Settings, name: str, argv: list[str]) -> Process:
    """Any command with these settings; stopped when its deployment ends."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    log = settings.data_dir / f"{name}.log"
    process = Process(name, argv, child_environment(settings), log)
    _running.setdefault(settings.data_dir, []).append(process)
    return process


def stop_all(data_dir: Path) -> None:
    """Stop what was started for the deployment with this folder."""
    group = _running.pop(data_dir, [])
    for process in group:
        if process.exit_status is None:
            process.signal(signal.SIGTERM)
    for process in group:
        process.stop()


@contextlib.contextmanager
def deployment(bootstrap_servers: str, data_dir: Path, **overrides: Any) -> Iterator[Settings]:
    """A new deployment on a shared cluster with its own topics, groups, folder and ports.

    `overrides` are settings; sections are dictionaries and are merged.
    """
    defaults: dict[str, Any] = {
        "data_dir": data_dir,
        "partitions": PARTITIONS,
        "kafka": {"bootstrap_servers": bootstrap_servers, "prefix": f"t{uuid.uuid4().hex[:8]}."},
        "http": {"port": free_port()},
        "metrics": {"enabled": False},
    }
    for name, value in overrides.items():
        both = isinstance(value, dict) and isinstance(defaults.get(name), dict)
        defaults[name] = defaults[name] | value if both else value
    settings = Settings(**defaults)
    topics.apply(settings)
    try:
        yield settings
    finally:
        stop_all(settings.data_dir)
        _delete_topics(settings)


def _delete_topics(settings: Settings) -> None:
    admin = AdminClient(settings.client_config() | {"log_level": 0})
    names = [topic.on_cluster(settings) for topic in topics.load()]
    for future in admin.delete_topics(names, request_timeout=30).values():
        # A test that stopped the broker or deleted a topic itself is not at fault here.
        with contextlib.suppress(Exception):
            future.result(timeout=30)


def wait_until(
    predicate: Callable[[], T | None],
    timeout_s: float = 60.0,
    what: str = "the condition",
    poll_s: float = _POLL_S,
) -> T:
    """The first truthy value of `predicate`; AssertionError after the timeout.

    An AssertionError inside the predicate means "not yet" and is shown when time is up.
    """
    deadline = time.monotonic() + timeout_s
    last: object = None
    while True:
        try:
            value = predicate()
            if value:
                return value
            last = value
        except AssertionError as error:
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(
                f"timed out after {timeout_s:.0f} s waiting for {what}; last: {last!r}"
            )
        time.sleep(poll_s)
