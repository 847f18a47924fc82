"""Versions of Python, Quix Streams and the Kafka client."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from segments import __version__
from segments.doctor.findings import Finding, fail, ok, warn
from segments.settings import Settings

DISTRIBUTION = "dynamic-segments"
OLDEST, NEWEST = (3, 11), (3, 13)


def look(_settings: Settings, _timeout_s: float) -> Iterator[Finding]:
    """The installed versions; only the Kafka client is imported to read its own."""
    yield python(sys.version_info[:2])
    yield stream_processor(_installed("quixstreams"), pin("quixstreams"))
    from confluent_kafka import libversion  # noqa: PLC0415 - slow, only needed here

    yield ok(
        "kafka client",
        f"confluent-kafka {_installed('confluent-kafka')}, librdkafka {libversion()[0]}",
    )


def python(version: tuple[int, ...]) -> Finding:
    """Whether this version of Python is tested."""
    seen = f"Python {platform.python_version()}, segments {__version__}"
    if OLDEST <= version <= NEWEST:
        return ok("python", seen)
    return warn("python", seen, "use Python 3.11 to 3.13, the tested versions")


def stream_processor(installed: str | None, pinned: str | None) -> Finding:
    """Whether Quix Streams has the pinned version: the service uses its private interface."""
    if installed is None:
        return fail("quixstreams", "not installed", "install the package with its dependencies")
    if pinned is None or installed == pinned:
        return ok("quixstreams", f"Quix Streams {installed}, as pinned")
    return fail(
        "quixstreams",
        f"Quix Streams {installed} found, {pinned} is pinned",
        f"install quixstreams=={pinned}",
    )


def pin(name: str) -> str | None:
    """The version to which this package pins a dependency; None if it pins none."""
    try:
        required = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return None
    exact = [each.partition(";")[0].strip() for each in required if each.startswith(f"{name}==")]
    return exact[0].partition("==")[2] if exact else None


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
