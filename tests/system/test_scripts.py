"""The scripts of the repository and their lock files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SCRIPTS = (
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "scripts").glob("[a-z]*")),
    ".ci/run",
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_executable(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True, timeout=30)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock"])
def test_locks_have_hashes_and_no_local_paths(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.findall(r"^[a-z0-9][^\n]*==[^\n]*", text, flags=re.MULTILINE)
    hashed = re.findall(r"^[a-z0-9][^\n]*==[^\n]*\\\n +--hash=sha256:", text, flags=re.MULTILINE)
    assert len(entries) > 20
    assert len(hashed) == len(entries)
    assert not re.search(r"://|--(extra-)?index-url|--find-links|^-e|file:", text)


def test_the_dev_lock_has_the_runtime_versions() -> None:
    pins = [
        dict(
            re.findall(r"^([a-z0-9][\w.-]*)==([^\s;\\]+)", (ROOT / name).read_text(), re.MULTILINE)
        )
        for name in ("requirements.lock", "requirements-dev.lock")
    ]
    assert pins[0].items() <= pins[1].items()


def test_without_python_the_script_names_the_required_version(tmp_path: Path) -> None:
    for tool in ("bash", "dirname", "cksum", "tr"):
        found = subprocess.run(["which", tool], capture_output=True, text=True, check=True).stdout
        (tmp_path / tool).symlink_to(found.strip())
    (tmp_path / "python3").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python3").chmod(0o755)
    scripts = tmp_path / "checkout" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "_environment.sh").write_text((ROOT / "scripts/_environment.sh").read_text())
    (scripts.parent / "requirements.lock").write_text("")
    finished = subprocess.run(
        ["bash", "-c", "source scripts/_environment.sh; prepare requirements.lock"],
        cwd=scripts.parent,
        env={"PATH": str(tmp_path)},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert finished.returncode == 1
    assert "Python 3.11 to 3.13 with its venv module is needed" in finished.stderr
    assert not (scripts.parent / ".venv").exists()
