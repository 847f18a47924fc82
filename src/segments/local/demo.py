"""`segments demo`: a deployment on one machine with 1,000 example users, and a tour of it."""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

from rich.console import Console

from segments.kafka.embedded import HOST, tail
from segments.local import up
from segments.local.demo_client import Stopped, TourFailed
from segments.local.demo_tour import Tour
from segments.process.ports import free_port, require_free
from segments.process.supervisor import Spec, Supervisor
from segments.settings import Settings
from segments.settings.auth import require_guard
from segments.settings.environment import child_environment
from segments.telemetry import logs

DEMO_USERS = 1_000
_USER_SERVICE = Path(__file__).resolve().parents[3] / "examples" / "user_service.py"
_USER_SERVICE_PORT = 8090
_USER_SERVICE_STAGE = 3  # stops after the users application, which calls it
_METRICS_PORTS = ("router_port", "users_port", "shards_port", "history_port")


class DemoError(TourFailed):
    """The demo cannot start; the message gives the reason."""


def run(settings: Settings, *, once: bool) -> int:
    """Run the tour; the exit status is 0 only if every step succeeded.

    Unless `once`, the deployment keeps running afterwards until SIGINT or SIGTERM. Ports are those
    of the settings, with `once` any free ones. The data is in a temporary folder and is deleted at
    the end.
    """
    logs.configure("warning", "demo")
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="segments-demo-") as folder:
        ours = _settings(settings, Path(folder), once=once)
        user_service = ours.user_service.base_url or ""
        require_guard(ours.auth, ours.http.host)
        up.require_ports(ours, shards=1)
        require_free(
            HOST,
            int(user_service.rpartition(":")[2]),
            purpose="the example user service",
            setting="SEGMENTS_USER_SERVICE__BASE_URL",
        )
        log_dir = ours.data_dir / "logs"
        with up.until_signalled() as stopping, Supervisor(log_dir=log_dir) as supervisor:
            try:
                _start(supervisor, ours, console, stopping)
                _show(supervisor, ours, console, stopping)
                if not once:
                    console.print("[bold]The deployment keeps running. Press Ctrl-C to stop it.[/]")
                    supervisor.run(stopping)
            except Stopped:
                return 130 if once else 0
            except TourFailed as error:
                console.print(f"[bold red]✗ {error}[/]", markup=True)
                _print_logs(console, log_dir)
                return 1
            finally:
                console.print("stopping the deployment …")
    return 0


def _settings(settings: Settings, folder: Path, *, once: bool) -> Settings:
    """Settings of the demo's deployment: fresh data, and free ports with `once`."""
    kafka = {"embedded": True, "prefix": ""}
    http = {}
    metrics: dict[str, object] = {"port": None}
    user_service_port = _USER_SERVICE_PORT
    if once:
        kafka["bootstrap_servers"] = f"{HOST}:{free_port()}"
        http = {"host": HOST, "port": free_port(), "public_url": None}
        metrics |= dict.fromkeys(_METRICS_PORTS, 0)
        user_service_port = free_port()
    elif (base_url := settings.user_service.base_url) is not None:
        user_service_port = int(base_url.rpartition(":")[2])
    user_service = {"base_url": f"http://{HOST}:{user_service_port}"}
    return settings.model_copy(
        update={
            "data_dir": folder,
            "kafka": settings.kafka.model_copy(update=kafka),
            "http": settings.http.model_copy(update=http),
            # The tour sends no credentials.
            "auth": settings.auth.model_copy(update={"mode": "none"}),
            "metrics": settings.metrics.model_copy(update=metrics),
            "user_service": settings.user_service.model_copy(update=user_service),
            "dev": settings.dev.model_copy(update={"enabled": True}),
        }
    )


def _start(
    supervisor: Supervisor, settings: Settings, console: Console, stopping: threading.Event
) -> None:
    if not _USER_SERVICE.is_file():
        raise DemoError(
            "the demo needs examples/user_service.py: run it from a checkout of the repository"
        )
    base_url = settings.user_service.base_url or ""
    port = base_url.rpartition(":")[2]
    argv = [sys.executable, str(_USER_SERVICE), "--port", port, "--users", str(DEMO_USERS)]
    environment = child_environment(settings)
    supervisor.start(Spec("user-service", argv, environment, _USER_SERVICE_STAGE))
    with console.status("starting Apache Kafka and every application …"):
        up.start(supervisor, settings, stopping)
        ready = up.wait_until_ready(supervisor, _http(settings), stopping)
    if stopping.is_set():
        raise Stopped
    if not ready:
        raise DemoError(f"the service was not ready within {up.READY_TIMEOUT_S:.0f} s")


def _show(
    supervisor: Supervisor, settings: Settings, console: Console, stopping: threading.Event
) -> None:
    """Run the tour in a second thread: the processes are bound to this one, which supervises."""
    tour = Tour(settings, _http(settings), console, stopping)
    failures: list[Exception] = []

    def run() -> None:
        try:
            tour.run()
        except Exception as error:  # noqa: BLE001  # raised below, on the main thread
            failures.append(error)

    thread = threading.Thread(target=run, name="tour")
    thread.start()
    while thread.is_alive():
        supervisor.poll()
        thread.join(timeout=0.1)
    if failures and isinstance(failures[0], (TourFailed, Stopped)):
        raise failures[0]
    if failures:
        raise TourFailed(f"{type(failures[0]).__name__}: {failures[0]}") from failures[0]


def _http(settings: Settings) -> str:
    return f"http://{settings.http.host}:{settings.http.port}"


def _print_logs(console: Console, log_dir: Path) -> None:
    for log_file in sorted(log_dir.glob("*.log")):
        if text := tail(log_file):
            console.rule(f"end of {log_file.name}")
            console.print(text, markup=False)
