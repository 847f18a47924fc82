"""Runs `segments` commands as a shell does."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import orjson

from segments.cli import main

CLI = [sys.executable, "-m", "segments.cli"]


def environment(**variables: str) -> dict[str, str]:
    """This process's environment without the settings of the service, plus these variables."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("SEGMENTS_")
    }
    return inherited | {"COLUMNS": "100", "TZ": "UTC"} | variables


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command and return its status and output, unchecked.

    It runs in this process, since starting a process per command would dominate the tests' time.
    """
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    status = 0
    with (
        _environment(**variables),
        mock.patch.object(sys, "argv", ["segments", *arguments]),
        mock.patch.object(sys, "stdin", io.StringIO()),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
    stdout, stderr = (each.buffer.getvalue().decode() for each in (out, err))
    return subprocess.CompletedProcess(arguments, status, stdout, stderr)


@contextlib.contextmanager
def _environment(**variables: str) -> Iterator[None]:
    try:
        with mock.patch.dict(os.environ, environment(**variables), clear=True):
            time.tzset()
            yield
    finally:
        time.tzset()


class Shell:
    """Runs commands with the URL of a service in the environment."""

    def __init__(self, url: str, **variables: str) -> None:
        self.variables = {"SEGMENTS_URL": url, **variables}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command, without checks."""
        return run(*arguments, **(self.variables | variables))

    def text(self, *arguments: str) -> str:
        """Run a command that must succeed; return its stdout."""
        finished = self.run(*arguments)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def json(self, *arguments: str) -> Any:
        """Run a command with --json; it must succeed and print only one document."""
        finished = self.run(*arguments, "--json")
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        return orjson.loads(finished.stdout)

    def ndjson(self, *arguments: str) -> list[Any]:
        """Run a command with --json that prints a document per line."""
        finished = self.run(*arguments, "--json")
        assert finished.returncode == 0, finished.stderr
        return [orjson.loads(line) for line in finished.stdout.splitlines()]

    def fail(self, *arguments: str) -> str:
        """Run a command that must fail, without a traceback or stdout; return its stderr."""
        finished = self.run(*arguments)
        assert finished.returncode == 1, finished.stdout
        assert finished.stdout == ""
        assert "Traceback" not in finished.stderr
        assert 1 <= len(finished.stderr.splitlines()) <= 3
        return finished.stderr
