"""Serves the metrics of a process: those of its application, and disk usage at scrape time."""

from __future__ import annotations

import platform
import shutil
import time
from importlib.metadata import version
from pathlib import Path

from prometheus_client import REGISTRY, start_http_server

from segments import __version__
from segments.settings import Settings
from segments.telemetry import metrics


def expose(settings: Settings, application: str) -> None:
    """Unregister the metrics that this application does not serve. Call once per process."""
    for metric, applications in metrics.SERVED_BY.items():
        if application not in applications:
            REGISTRY.unregister(metric)
    labels = (application, __version__, version("quixstreams"), platform.python_version())
    metrics.BUILD_INFO.labels(*labels).set(1)
    if application in metrics.STREAM_APPLICATIONS:
        # The start counts as a turn, so that a process that never turns is detected as well.
        metrics.LAST_TURN_TIMESTAMP_SECONDS.labels(application).set(time.time())
    _watch_disk(settings.data_dir)


def _watch_disk(folder: Path) -> None:
    """Read disk usage on every scrape: a single system call."""
    # The folder may not exist yet; its nearest existing ancestor is on the same disk.
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    metrics.DATA_DIR_FREE_BYTES.set_function(lambda: shutil.disk_usage(existing).free)
    metrics.DATA_DIR_SIZE_BYTES.set_function(lambda: shutil.disk_usage(existing).total)


def serve(settings: Settings, application: str) -> int | None:
    """Serve in a daemon thread and return the port; None if disabled. OSError if it is in use."""
    expose(settings, application)
    if not settings.metrics.enabled:
        return None
    port = settings.metrics_port(application)
    server, _ = start_http_server(port, addr=settings.metrics.host)
    return int(server.server_port)
