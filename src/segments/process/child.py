"""Runs a command that is killed when its parent exits.

Used as a script, without the package: `python -I child.py PARENT_PID COMMAND…`. The kernel kills
the command when the thread that started it exits, even by SIGKILL, so no orphan is left behind
(prctl(2), PR_SET_PDEATHSIG). On systems other than Linux the command is run without this.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def command(argv: list[str]) -> list[str]:
    """The command line that runs `argv` as a child bound to the calling process.

    Start it from a thread that outlives the command: it is killed when that thread exits.
    """
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *argv]


def _bind_to(parent_pid: int) -> None:
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # the parent died before prctl was called
        sys.exit(1)


def main() -> None:
    """Bind to the parent and exec the command."""
    _bind_to(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # no shell is needed


if __name__ == "__main__":
    main()
