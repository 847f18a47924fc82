"""The supervisor with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from segments.process.child import command
from segments.process.supervisor import Spec, Supervisor
from tests.support.deployments import gone, wait_until

_SLEEPER = "import time; print('up', flush=True); time.sleep(600)"
_STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)"
)


def _spec(name: str, code: str = _SLEEPER, stage: int = 0) -> Spec:
    return Spec(name, [sys.executable, "-c", code], dict(os.environ), stage)


class _Lines:
    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.all.append((name, line))


def test_a_killed_child_is_restarted_and_none_is_left() -> None:
    lines = _Lines()
    with Supervisor(on_line=lines) as supervisor:
        supervisor.start(_spec("a"))
        supervisor.start(_spec("b"))
        before = supervisor.pids()
        wait_until(lambda: len(lines.all) == 2, what="both to speak")
        os.kill(before["a"], signal.SIGKILL)

        def restarted() -> bool:
            supervisor.poll()
            return "a" in supervisor.pids() and supervisor.pids()["a"] != before["a"]

        wait_until(restarted, what="the restart")
        after = supervisor.pids()
        assert after["b"] == before["b"]
    assert all(gone(pid) for pid in {*before.values(), *after.values()})


def test_restarts_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segments.process.supervisor.BACKOFF_FIRST_S", 0.1)
    starts = _Lines()
    with Supervisor(on_line=starts) as supervisor:
        supervisor.start(_spec("dying", "import time; print(time.monotonic())"))

        def four() -> bool:
            supervisor.poll()
            return len(starts.all) >= 4

        wait_until(four, what="four starts")
    at = [float(line) for _, line in starts.all]
    assert at[2] - at[1] >= 0.2
    assert at[3] - at[2] >= 0.4


def test_stages_stop_in_order(tmp_path: Path) -> None:
    code = (
        "import signal, sys, time, pathlib\n"
        "def end(*_):\n"
        "    pathlib.Path(sys.argv[1]).write_text(str(time.monotonic())); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end); print('up', flush=True); time.sleep(600)"
    )
    lines = _Lines()
    with Supervisor(on_line=lines) as supervisor:
        for stage in (2, 0, 1):
            argv = [sys.executable, "-c", code, str(tmp_path / str(stage))]
            supervisor.start(Spec(f"s{stage}", argv, dict(os.environ), stage))
        wait_until(lambda: len(lines.all) == 3, what="all to speak")
    ended = [float((tmp_path / str(stage)).read_text()) for stage in range(3)]
    assert ended == sorted(ended)


def test_a_child_that_ignores_sigterm_is_killed() -> None:
    lines = _Lines()
    supervisor = Supervisor(on_line=lines)
    supervisor.start(_spec("stubborn", _STUBBORN))
    wait_until(lambda: lines.all, what="it to speak")
    pid = supervisor.pids()["stubborn"]
    began = time.monotonic()
    supervisor.stop(grace_s=0.3)
    assert time.monotonic() - began >= 0.3
    assert gone(pid)


def test_children_exit_when_the_supervisor_is_killed() -> None:
    code = (
        "import os, sys, threading\n"
        "from segments.process.supervisor import Spec, Supervisor\n"
        "s = Supervisor(on_line=lambda n, l: None)\n"
        f"s.start(Spec('x', [sys.executable, '-c', {_STUBBORN!r}], dict(os.environ)))\n"
        "print(s.pids()['x'], flush=True)\n"
        "s.run(threading.Event())"
    )
    with subprocess.Popen(command([sys.executable, "-c", code]), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert not gone(pid)
        process.kill()
    wait_until(lambda: gone(pid), what="the child's end")


def test_output_can_go_to_files(tmp_path: Path) -> None:
    with Supervisor(log_dir=tmp_path) as supervisor:
        supervisor.start(_spec("a"))
        wait_until(lambda: (tmp_path / "a.log").read_text() == "up\n", what="the line")
