"""Supervises child processes: restarts them, collects their output, stops them in order."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from segments.process.child import command
from segments.telemetry import logs

BACKOFF_FIRST_S = 0.5
BACKOFF_MAX_S = 30.0
HEALTHY_AFTER_S = 30.0
GRACE_S = 20.0
_POLL_S = 0.1
_LINE_MAX_BYTES = 65_536

log = logs.get(__name__)
OnLine = Callable[[str, str], None]


@dataclass(frozen=True)
class Spec:
    """A process to keep running. Processes of a lower `stage` are stopped first."""

    name: str
    argv: list[str]
    environment: Mapping[str, str]
    stage: int = 0


@dataclass
class _Child:
    spec: Spec
    process: subprocess.Popen[bytes]
    started_at_s: float
    failures: int = 0
    restart_at_s: float | None = None
    readers: list[threading.Thread] = field(default_factory=list)


class Supervisor:
    """Keeps processes running. Use it from one thread: they are killed when that thread exits.

    Their output goes line by line to `on_line(name, line)`, or to files in `log_dir`.
    """

    def __init__(self, on_line: OnLine | None = None, log_dir: Path | None = None) -> None:
        if (on_line is None) == (log_dir is None):
            raise ValueError("pass either on_line or log_dir")
        self._on_line = on_line
        self._log_dir = log_dir
        self._children: dict[str, _Child] = {}

    def start(self, spec: Spec) -> None:
        """Start a process and keep it running until `stop`."""
        if spec.name in self._children:
            raise ValueError(f"{spec.name} is running already")
        self._children[spec.name] = self._spawn(spec)

    def pids(self) -> dict[str, int]:
        """Name -> process id of the running processes."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process.poll() is None
        }

    def run(self, stopping: threading.Event) -> None:
        """Restart processes that exit until the event is set."""
        while not stopping.wait(_POLL_S):
            self.poll()

    def poll(self) -> None:
        """Check every process once, and restart those that are due."""
        now_s = time.monotonic()
        for child in list(self._children.values()):
            if child.restart_at_s is None:
                self._schedule_restart(child, now_s)
            elif now_s >= child.restart_at_s:
                failures = child.failures
                self._children[child.spec.name] = replacement = self._spawn(child.spec)
                replacement.failures = failures

    def stop(self, grace_s: float = GRACE_S) -> None:
        """Stop all processes stage by stage; kill those that outlast the grace period."""
        try:
            for stage in sorted({child.spec.stage for child in self._children.values()}):
                self._stop_stage(stage, grace_s)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill all processes at once."""
        for child in self._children.values():
            child.process.kill()
        for child in self._children.values():
            child.process.wait()
            for reader in child.readers:
                reader.join(timeout=GRACE_S)
        self._children.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _schedule_restart(self, child: _Child, now_s: float) -> None:
        status = child.process.poll()
        if status is None:
            return
        healthy = now_s - child.started_at_s >= HEALTHY_AFTER_S
        child.failures = 1 if healthy else child.failures + 1
        delay_s = min(BACKOFF_FIRST_S * 2 ** (child.failures - 1), BACKOFF_MAX_S)
        child.restart_at_s = now_s + delay_s
        log.warning(
            "process_exited",
            process=child.spec.name,
            status=status,
            delay_s=delay_s,
        )

    def _stop_stage(self, stage: int, grace_s: float) -> None:
        children = [child for child in self._children.values() if child.spec.stage == stage]
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        for child in children:
            try:
                child.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                log.warning("process_killed", process=child.spec.name, grace_s=grace_s)
                child.process.kill()

    def _spawn(self, spec: Spec) -> _Child:
        with contextlib.ExitStack() as stack:
            output: int | IO[bytes] = subprocess.PIPE
            if self._log_dir is not None:
                self._log_dir.mkdir(parents=True, exist_ok=True)
                output = stack.enter_context((self._log_dir / f"{spec.name}.log").open("ab"))
            process = subprocess.Popen(  # noqa: S603  # our own commands
                command(spec.argv),
                env=dict(spec.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C must not reach them: they are stopped in order
            )
        child = _Child(spec, process, time.monotonic())
        if self._on_line is not None:
            child.readers.append(self._reader(spec.name, process, self._on_line))
        return child

    @staticmethod
    def _reader(name: str, process: subprocess.Popen[bytes], on_line: OnLine) -> threading.Thread:
        def read() -> None:
            pipe = process.stdout
            assert pipe is not None
            with pipe:
                while line := pipe.readline(_LINE_MAX_BYTES):
                    on_line(name, line.decode("utf-8", errors="replace").rstrip("\n"))

        thread = threading.Thread(target=read, name=f"output of {name}", daemon=True)
        thread.start()
        return thread
