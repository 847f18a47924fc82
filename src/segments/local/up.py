"""`segments up`: runs every process of a deployment on one machine."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from rich.console import Console
from rich.text import Text

from segments.kafka import topics
from segments.kafka.access import KafkaError
from segments.kafka.embedded import HOST, SETTING, START_TIMEOUT_S, embedded_port
from segments.process.ports import free_port, is_free, require_free
from segments.process.supervisor import OnLine, Spec, Supervisor
from segments.settings import Settings
from segments.settings.auth import require_guard
from segments.settings.environment import child_environment
from segments.telemetry import logs
from segments.telemetry.metrics import APPLICATIONS

READY_TIMEOUT_S = 60.0
_POLL_S = 0.1
_COLOURS = ("cyan", "green", "magenta", "yellow", "blue", "bright_cyan", "bright_green")
# Processes that accept work stop first, those that others write to stop last.
_STAGES = {"http": 0, "router": 1, "users": 1, "shards": 2, "history": 3, "kafka": 4}

log = logs.get(__name__)


def spec(settings: Settings, name: str) -> Spec:
    """The process of an application, or of `kafka`, with these settings."""
    label = name if settings.instance == 0 else f"{name}-{settings.instance}"
    argv = [sys.executable, "-m", "segments.cli", *(["run"] if name != "kafka" else []), name]
    return Spec(label, argv, child_environment(settings), _STAGES[name])


def application_specs(settings: Settings, shards: int) -> list[Spec]:
    """One process per application, and `shards` processes of shards."""
    first = [spec(settings, name) for name in APPLICATIONS]
    more = [settings.model_copy(update={"instance": n}) for n in range(1, shards)]
    return first + [spec(other, "shards") for other in more]


def with_chosen_ports(settings: Settings) -> Settings:
    """The settings with a free port where the sidecar's or the embedded Kafka's port is 0."""
    kafka, http = settings.kafka, settings.http
    if kafka.embedded and embedded_port(settings) == 0:
        kafka = kafka.model_copy(update={"bootstrap_servers": f"{HOST}:{free_port()}"})
    if http.port == 0:
        http = http.model_copy(update={"port": free_port(http.host)})
    return settings.model_copy(update={"kafka": kafka, "http": http})


def require_ports(settings: Settings, shards: int) -> None:
    """Raise PortInUseError, naming the setting, unless every port of the deployment is free."""
    if settings.kafka.embedded:
        require_free(HOST, embedded_port(settings), purpose="the embedded Kafka", setting=SETTING)
    require_free(
        settings.http.host,
        settings.http.port,
        purpose="the HTTP sidecar",
        setting="SEGMENTS_HTTP__PORT",
    )
    if not settings.metrics.enabled:
        return
    for name in APPLICATIONS[:-1]:
        for instance in range(shards if name == "shards" else 1):
            numbered = settings.model_copy(update={"instance": instance})
            require_free(
                settings.metrics.host,
                numbered.metrics_port(name),
                purpose=f"the metrics of {name}",
                setting=f"SEGMENTS_METRICS__{name.upper()}_PORT",
            )


def start(
    supervisor: Supervisor, settings: Settings, stopping: threading.Event, shards: int = 1
) -> None:
    """Start the embedded Kafka if configured, apply the topics, start every application.

    Returns early when the event is set.
    """
    if settings.kafka.embedded:
        supervisor.start(spec(settings, "kafka"))
        wait_for_kafka(supervisor, settings, stopping)
    if stopping.is_set():
        return
    created = topics.apply(settings)
    log.info("topics_applied", created=len(created))
    for each in application_specs(settings, shards):
        supervisor.start(each)


def wait_for_kafka(supervisor: Supervisor, settings: Settings, stopping: threading.Event) -> None:
    """Wait until the embedded broker responds. KafkaError when it exits or takes too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    port = embedded_port(settings)
    admin = AdminClient(settings.client_config() | {"log_level": 0})
    while not stopping.wait(_POLL_S):
        if "kafka" not in supervisor.pids():
            raise KafkaError("the embedded Kafka exited during its start; see its log")
        if time.monotonic() > deadline:
            raise KafkaError(f"Kafka did not respond within {START_TIMEOUT_S:.0f} s")
        try:
            if not is_free(HOST, port) and admin.list_topics(timeout=2).brokers:
                return
        except KafkaException as error:
            log.debug("kafka_not_responding", error=str(error))


def is_ready(base_url: str) -> bool:
    """Whether the HTTP sidecar responds and its view has caught up."""
    try:
        return httpx.get(f"{base_url}/readyz", timeout=2).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """An event set by SIGINT or SIGTERM; a second signal raises KeyboardInterrupt."""
    stopping = threading.Event()

    def handle(*_: object) -> None:
        if stopping.is_set():
            raise KeyboardInterrupt
        stopping.set()

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in numbers]
    try:
        yield stopping
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


def up(settings: Settings, shards: int) -> None:
    """Run everything on this machine until SIGINT or SIGTERM."""
    logs.configure(settings.log_level, "up")
    if settings.metrics.port is not None:
        raise KafkaError(
            "SEGMENTS_METRICS__PORT is for a single process, `up` starts several: unset it"
        )
    require_guard(settings.auth, settings.http.host)
    settings = with_chosen_ports(settings)
    require_ports(settings, shards)
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with until_signalled() as stopping, Supervisor(on_line=_printer(console)) as supervisor:
        start(supervisor, settings, stopping, shards)
        base_url = f"http://{settings.http.host}:{settings.http.port}"
        if wait_until_ready(supervisor, base_url, stopping):
            log.info("deployment_ready", url=base_url, processes=supervisor.pids())
        elif not stopping.is_set():
            log.warning("deployment_not_ready", url=base_url)
        supervisor.run(stopping)
        log.info("deployment_stopping")


def wait_until_ready(supervisor: Supervisor, base_url: str, stopping: threading.Event) -> bool:
    """Supervise the processes until the sidecar is ready; False when stopped or timed out."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not stopping.wait(_POLL_S) and time.monotonic() < deadline:
        supervisor.poll()
        if is_ready(base_url):
            return True
    return False


def _printer(console: Console) -> OnLine:
    """Prints log lines: for people with the process name in front, otherwise as JSON lines."""
    colours: dict[str, str] = {}
    lock = threading.Lock()

    def on_line(name: str, line: str) -> None:
        entry = _log_entry(line)
        with lock:
            if not console.is_terminal:
                wrapped = entry or {"event": line, "application": name}
                console.file.write(orjson.dumps(wrapped).decode() + "\n")
                console.file.flush()
                return
            colour = colours.setdefault(name, _COLOURS[len(colours) % len(_COLOURS)])
            text = line if entry is None else _format_entry(entry)
            console.print(Text(f"{name:<9}", style=colour), Text(text), sep="│ ")

    return on_line


def _log_entry(line: str) -> dict[str, Any] | None:
    """The entry of a JSON log line; None for any other line."""
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return entry if isinstance(entry, dict) and "event" in entry else None


def _format_entry(entry: dict[str, Any]) -> str:
    fields = dict(entry)
    time_of_day = str(fields.pop("timestamp", ""))[11:19]
    level, event = fields.pop("level", ""), fields.pop("event")
    trace = fields.pop("exception", "")
    fields.pop("application", None)
    values = " ".join(f"{key}={value}" for key, value in fields.items())
    return f"{time_of_day} {level:<7} {event} {values}" + (f"\n{trace}" if trace else "")
