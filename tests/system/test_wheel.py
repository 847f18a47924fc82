"""The sdist and wheel contain every module, and the modules import outside the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

SOURCES = ROOT / "src" / "segments"
BUILD_INPUT = (
    "src", "streams", "state", "http", "topics.yaml", "pyproject.toml", "README.md", "LICENSE",
)  # fmt: skip
DATA = {"topics.yaml", "py.typed", "kafka/jars.lock"}

_IMPORT_ALL = """
import importlib, pathlib, sys
target = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(target))
for path in sorted((target / "segments").rglob("*.py")):
    name = ".".join(path.relative_to(target).with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    assert pathlib.Path(module.__file__).is_relative_to(target), module.__file__
    print(name)
"""


def _modules() -> set[str]:
    found = set()
    for folder, _, files in os.walk(SOURCES, followlinks=True):
        where = Path(folder).relative_to(SOURCES.parent)
        found |= {str(where / name) for name in files if name.endswith(".py")}
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was made from the sdist."""
    workspace = tmp_path_factory.mktemp("build")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in BUILD_INPUT:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, workspace / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, workspace / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", "."]
    finished = subprocess.run(
        command, check=False, cwd=workspace, capture_output=True, text=True, timeout=110
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return workspace / "dist"


def test_the_wheel_holds_every_module_and_data_file(built: Path) -> None:
    [wheel] = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert _modules() == {name for name in names if name.endswith(".py")}
    assert {f"segments/{name}" for name in DATA} <= names


def test_the_sdist_holds_every_module(built: Path) -> None:
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/src/")[2] for name in archive.getnames()}
    assert _modules() <= names


def test_every_module_imports_outside_the_repository(built: Path, tmp_path: Path) -> None:
    [wheel] = built.glob("*.whl")
    target = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    finished = subprocess.run(
        [sys.executable, "-P", "-c", _IMPORT_ALL, str(target)],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert finished.returncode == 0, finished.stderr
    assert len(finished.stdout.split()) == len(_modules())
