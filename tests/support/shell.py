"""Commands of `segments`, called as a shell calls them."""

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
    """This environment without what would set the service up, but with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SEGMENTS_")}
    return kept | {"COLUMNS": "100", "TZ": "UTC"} | variables


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command that has ended; status and output are the test's to judge.

    In this process: to start one for each command would take most of the tests' time.
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
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
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
    """Calls commands with the address of a service in the environment."""

    def __init__(self, url: str, **variables: str) -> None:
        self.variables = {"SEGMENTS_URL": url, **variables}

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Any command."""
        return run(*arguments, **(self.variables | variables))

    def text(self, *arguments: str) -> str:
        """What a command that must succeed says to people."""
        finished = self.run(*arguments)
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def json(self, *arguments: str) -> Any:
        """The document that a command that must succeed prints with --json, alone."""
        finished = self.run(*arguments, "--json")
        assert finished.returncode == 0, finished.stderr
        assert finished.stderr == ""
        return orjson.loads(finished.stdout)

    def ndjson(self, *arguments: str) -> list[Any]:
        """The documents, one a line."""
        finished = self.run(*arguments, "--json")
        assert finished.returncode == 0, finished.stderr
        return [orjson.loads(line) for line in finished.stdout.splitlines()]

    def refused(self, *arguments: str) -> str:
        """What a command that must fail says, without a traceback and on stderr alone."""
        finished = self.run(*arguments)
        assert finished.returncode == 1, finished.stdout
        assert finished.stdout == ""
        assert "Traceback" not in finished.stderr
        assert 1 <= len(finished.stderr.splitlines()) <= 3
        return finished.stderr
