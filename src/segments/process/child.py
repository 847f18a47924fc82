"""Runs a command that dies with the process that started it.

Used as a script, without the package: `python -I child.py PARENT_PID COMMAND…`. The kernel ends the
command when the thread that started it ends, also by SIGKILL, so nothing is left behind. Where the
system has no such request (it is Linux's), the command is run as it is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def command(argv: list[str]) -> list[str]:
    """The command line that runs `argv` bound to the calling process.

    Start it from a thread that lives as long as the command shall live.
    """
    return [sys.executable, "-I", "-S", str(Path(__file__).resolve()), str(os.getpid()), *argv]


def _bind_to(parent_pid: int) -> None:
    if sys.platform != "linux":
        return
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent_pid:  # it died before the request was made
        sys.exit(1)


def main() -> None:
    """Bind to the parent and become the command."""
    _bind_to(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main()
