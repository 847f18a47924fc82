"""The embedded Kafka: a single broker process that listens on loopback only."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import threading
import time
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from segments.kafka import jars as kafka_jars
from segments.kafka.access import Credentials, KafkaError, credentials_of
from segments.process import child, private_files
from segments.process.ports import free_port, is_free, require_free
from segments.settings import Settings
from segments.telemetry import logs

HOST = "127.0.0.1"
SETTING = "SEGMENTS_KAFKA__BOOTSTRAP_SERVERS"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
_FORMAT_TIMEOUT_S = 60.0
_POLL_S = 0.1
_LOG_TAIL_LINES = 25
_LOG_TAIL_BYTES = 65_536
_HEAP = "-Xmx512m"

# After a crash the broker waits until its old registration expires: broker.session.timeout.ms.
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=CLIENTS://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=CLIENTS://{host}:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENTS
listener.security.protocol.map=CLIENTS:{protocol},CONTROLLER:{protocol}
log.dirs={log_dir}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
offsets.retention.minutes=525600
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=5000
broker.heartbeat.interval.ms=1000
log.cleaner.dedupe.buffer.size=33554432
num.network.threads=2
num.io.threads=4
"""


def _new_cluster_id() -> str:
    """A random UUID in Kafka's base64 form, without a leading hyphen, which would be an option."""
    while (text := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


class EmbeddedKafka:
    """A broker with its controller. Start and stop it from one thread; it exits with that thread.

    `port` 0 selects a free port at the first start and keeps it across restarts. With
    `credentials`, clients must authenticate with them (SASL PLAIN).
    """

    def __init__(
        self,
        data_dir: Path,
        port: int = 0,
        *,
        jars_root: Path | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        self._dir = data_dir / "kafka"
        self._configured_port = port
        self._port = port
        self._jars_root = jars_root
        self._credentials = credentials
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap_servers(self) -> str:
        """The address of the broker; known after the first start."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """Id of the Java process. KafkaError when it is not running."""
        if self._process is None:
            raise KafkaError("the embedded Kafka is not running")
        return self._process.pid

    @property
    def log_file(self) -> Path:
        """The broker's log since its last start."""
        return self._dir / "server.log"

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start the broker and wait until it is usable. KafkaError or PortInUseError on failure."""
        if self._process is not None:
            raise KafkaError("the embedded Kafka is running already")
        require_free(HOST, self._configured_port, purpose="the embedded Kafka", setting=SETTING)
        jars = kafka_jars.ensure(self._jars_root)
        self._port = self._port or free_port()
        self._dir.mkdir(parents=True, exist_ok=True)
        properties = self._write_properties(self._dir / "data")
        if not (self._dir / "data").is_dir():
            self._format(jars)
        if self.log_file.exists():
            self.log_file.replace(self._dir / "server.log.1")
        self._process = self._spawn(jars, "kafka.Kafka", str(properties))
        try:
            self._wait_until_ready(timeout_s)
        except BaseException:
            self.kill()
            raise

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Shut down gracefully, kill after the timeout. A no-op when it is not running."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """Kill the process, as a power failure would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def exit_status(self) -> int | None:
        """The exit status if it exited by itself, otherwise None."""
        return None if self._process is None else self._process.poll()

    def log_tail(self) -> str:
        """The last lines of the broker's log."""
        return tail(self.log_file)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write_properties(self, log_dir: Path) -> Path:
        # Nobody else needs the controller's port: a free one is chosen at every start.
        protocol = "PLAINTEXT" if self._credentials is None else "SASL_PLAINTEXT"
        text = _PROPERTIES.format(
            host=HOST,
            port=self._port,
            controller_port=free_port(),
            log_dir=log_dir,
            protocol=protocol,
        )
        if self._credentials is not None:
            text += self._credentials.of_broker("clients", "controller")
        path = self._dir / f"{log_dir.name}.properties"
        private_files.write(path, text.encode())
        return path

    def _format(self, jars: Path) -> None:
        # Formatted in a temporary folder, then renamed: a partial format is never mistaken for a
        # complete one.
        unfinished = self._dir / "formatting"
        shutil.rmtree(unfinished, ignore_errors=True)
        properties = self._write_properties(unfinished)
        cluster_id = _new_cluster_id()
        process = self._spawn(
            jars, "kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", str(properties)
        )
        try:
            status = process.wait(_FORMAT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if status != 0:
            raise KafkaError(f"formatting Kafka's storage failed:\n{self.log_tail()}")
        unfinished.rename(self._dir / "data")

    def _spawn(self, jars: Path, *arguments: str) -> subprocess.Popen[bytes]:
        java = kafka_jars.java_home() / "bin" / "java"
        # Native libraries are unpacked at each start and stay behind when the broker is killed.
        unpacked = self._dir / "tmp"
        shutil.rmtree(unpacked, ignore_errors=True)
        unpacked.mkdir()
        options = [
            _HEAP,
            f"-Djava.io.tmpdir={unpacked}",
            "-XX:+PerfDisableSharedMem",
            "-Djava.awt.headless=true",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            f"-XX:ErrorFile={self._dir / 'jvm-crash.log'}",
        ]
        with self.log_file.open("ab") as log:
            return subprocess.Popen(  # noqa: S603  # our own Java with our own arguments
                child.command([str(java), *options, "-cp", f"{jars}/*", *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # no Ctrl-C: it stops after its clients
            )

    def _wait_until_ready(self, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            if (status := self.exit_status()) is not None:
                raise KafkaError(f"Kafka exited with status {status}:\n{self.log_tail()}")
            # A client logs failed connections: the port is probed first.
            if not is_free(HOST, self._port) and self._responds():
                return
            time.sleep(_POLL_S)
        raise KafkaError(f"Kafka was not ready after {timeout_s:.0f} s:\n{self.log_tail()}")

    def _responds(self) -> bool:
        client = {} if self._credentials is None else self._credentials.of_client()
        admin = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0} | client)
        try:
            return bool(admin.list_topics(timeout=2).brokers)
        except KafkaException:
            return False


def tail(path: Path, lines: int = _LOG_TAIL_LINES) -> str:
    """The last lines of a text file; empty when it does not exist."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    return "\n".join(text.splitlines()[-lines:])


def embedded_port(settings: Settings) -> int:
    """The port of `kafka.bootstrap_servers`. KafkaError unless the address is on loopback."""
    host, _, port = settings.kafka.bootstrap_servers.rpartition(":")
    if host not in {HOST, "localhost"} or not port.isdecimal() or int(port) > 65_535:
        raise KafkaError(
            f"the embedded Kafka listens on loopback only: set {SETTING} to {HOST}:<port> "
            f"(now {settings.kafka.bootstrap_servers})"
        )
    return int(port)


def run(settings: Settings) -> None:
    """Run the embedded broker until SIGTERM or SIGINT. KafkaError when it exits by itself."""
    logs.configure(settings.log_level, "kafka")
    log = logs.get(__name__)
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    port, credentials = embedded_port(settings), credentials_of(settings)
    with EmbeddedKafka(settings.data_dir, port, credentials=credentials) as kafka:
        log.info("kafka_ready", bootstrap_servers=kafka.bootstrap_servers, pid=kafka.pid)
        while not stopping.wait(1.0):
            if (status := kafka.exit_status()) is not None:
                raise KafkaError(f"Kafka exited with status {status}:\n{kafka.log_tail()}")
    log.info("kafka_stopped")
