"""How a process serves its metrics: those of its kind, and what can be looked up at any time."""

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
    """Leave those metrics in the registry that this application serves; once a process."""
    for metric, applications in metrics.SERVED_BY.items():
        if application not in applications:
            REGISTRY.unregister(metric)
    labels = (application, __version__, version("quixstreams"), platform.python_version())
    metrics.BUILD_INFO.labels(*labels).set(1)
    if application in metrics.STREAM_APPLICATIONS:
        # Until the first turn: a process that never comes to it stands still as well.
        metrics.LAST_TURN_TIMESTAMP_SECONDS.labels(application).set(time.time())
    _ask_for_disk(settings.data_dir)


def _ask_for_disk(folder: Path) -> None:
    """Look at the disk whenever somebody asks: it is one system call."""
    # The folder is made later by whoever needs it first; its disk is that of the next one above.
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    metrics.DATA_DIR_FREE_BYTES.set_function(lambda: shutil.disk_usage(existing).free)
    metrics.DATA_DIR_SIZE_BYTES.set_function(lambda: shutil.disk_usage(existing).total)


def serve(settings: Settings, application: str) -> int | None:
    """Serve in a daemon thread, if it is turned on: the port. OSError when it is taken."""
    expose(settings, application)
    if not settings.metrics.enabled:
        return None
    port = settings.metrics_port(application)
    server, _ = start_http_server(port, addr=settings.metrics.host)
    return int(server.server_port)
