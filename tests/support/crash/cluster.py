"""A deployment whose processes can be killed, frozen, wiped and restarted."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from segments.kafka.embedded import EmbeddedKafka
from segments.process.ports import free_port
from segments.settings import Settings
from tests.support import deployments
from tests.support.user_service import UserService

ADMIN_TIMEOUT_S = 30.0
QUERY_TIMEOUT_S = 10.0
SOURCES = {
    "router": ("segments.commands", "users.events"),
    "users": ("users.refreshes",),
    "shards": ("segments.shards",),
    "history": ("segments.history",),
}
"""The topics that each application consumes."""
USERS = 120
FAST_USER_SERVICE = {"timeout_ms": 500, "attempts": 2, "backoff_ms": 20, "backoff_max_ms": 200}


class Cluster:
    """The processes of a deployment by name: `router`, `shards-0`, `shards-1`, `http-0` …

    Use it from the thread that created it: a child process exits with the thread that started it.
    """

    def __init__(self, settings: Settings, names: list[str], broker: EmbeddedKafka | None) -> None:
        self.settings = settings
        self.names = names
        self.user_service = UserService(settings)
        self.kills: Counter[str] = Counter()
        self.wipes: Counter[str] = Counter()
        self.freezes: Counter[str] = Counter()
        self.ends: list[str] = []
        """Processes that exited by themselves, with their status and last log line."""
        self.broker_restarts = 0
        self._broker = broker
        self._processes: dict[str, deployments.Process] = {}
        self._committed_at_start: dict[str, int] = {}
        self._consumers: dict[str, Consumer] = {}
        self._ports = {name: free_port() for name in names if name.startswith("http")}
        self._admin = AdminClient(settings.client_config() | {"log_level": 0})

    # --- processes ---

    def settings_of(self, name: str) -> Settings:
        """The settings a process runs with."""
        _, number = parts(name)
        changes: dict[str, Any] = {"instance": number}
        if name in self._ports:
            changes["http"] = self.settings.http.model_copy(update={"port": self._ports[name]})
        return self.settings.model_copy(update=changes)

    def start(self, *names: str, **overrides: Any) -> None:
        """Start processes that are not running. `overrides` are settings."""
        for name in names:
            application, _ = parts(name)
            if application in SOURCES:
                self._committed_at_start[name] = self._committed(application)
            settings = self.settings_of(name).model_copy(update=overrides)
            self._processes[name] = deployments.start(settings, application, label=name)

    def process(self, name: str) -> deployments.Process:
        return self._processes[name]

    def running(self, name: str) -> bool:
        process = self._processes.get(name)
        return process is not None and process.exit_status is None

    def kill(self, name: str) -> None:
        """kill -9."""
        self._processes.pop(name).kill()
        self.kills[name] += 1

    def stop(self, name: str) -> None:
        """SIGTERM; AssertionError unless the exit status is 0."""
        process = self._processes.pop(name)
        assert process.stop() == 0, f"{name} exited with an error:\n{process.log()}"

    def freeze(self, name: str) -> None:
        """SIGSTOP, like a machine that hangs."""
        self.process(name).signal(signal.SIGSTOP)
        self.freezes[name] += 1

    def thaw(self, name: str) -> None:
        self.process(name).signal(signal.SIGCONT)

    def restart_exited(self) -> None:
        """Restart processes that exited by themselves, as the supervisor does."""
        for name, process in list(self._processes.items()):
            if (status := process.exit_status) is not None:
                last = process.log().splitlines()[-1:] or ["(no output)"]
                self.ends.append(f"{name} exited with status {status}: {last[0]}")
                self.start(name)

    def wipe(self, name: str) -> None:
        """Remove the state folder of a process that is not running."""
        assert not self.running(name)
        folder = self.state_folder(name)
        if folder.exists():
            shutil.rmtree(folder)
            self.wipes[name] += 1

    def state_folder(self, name: str) -> Path:
        """The state folder of a shards or http process, which it can rebuild."""
        application, number = parts(name)
        return self.settings.data_dir / f"{application}-{number}"

    def restart_broker(self) -> None:
        """Kill Kafka, as a power failure would, and restart it on the same data."""
        assert self._broker is not None, "the broker is shared"
        self._broker.kill()
        self._broker.start()
        self.broker_restarts += 1

    # --- progress ---

    def working(self, name: str) -> bool:
        """Whether a process has made progress since its start."""
        if not self.running(name):
            return False
        application, _ = parts(name)
        if application == "http":
            return self.ready(name)
        return self._committed(application) > self._committed_at_start[name]

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def ready(self, name: str) -> bool:
        """Whether /readyz of an http process succeeds."""
        try:
            return httpx.get(f"{self.url(name)}/readyz", timeout=5, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def _committed(self, application: str) -> int:
        """Sum of the committed offsets of an application's group; 0 when they cannot be read."""
        return sum(self.committed(application).values())

    def committed(self, application: str) -> dict[tuple[str, int], int]:
        """Committed offset by (topic, partition) of an application's group.

        Queried by a consumer that never joins the group: the same query of the admin client
        crashes librdkafka while the coordinator of the group is unknown.
        """
        partitions = [
            TopicPartition(self.settings.topic(topic), partition)
            for topic in SOURCES[application]
            for partition in range(self.settings.partitions)
        ]
        try:
            found = self._metadata_consumer(application).committed(
                partitions, timeout=QUERY_TIMEOUT_S
            )
        except KafkaException:
            return {}  # the broker is unavailable
        return {(tp.topic, tp.partition): tp.offset for tp in found if tp.offset >= 0}

    def _metadata_consumer(self, application: str) -> Consumer:
        if application not in self._consumers:
            group = {"group.id": self.settings.group(application), "log_level": 0}
            self._consumers[application] = Consumer(self.settings.client_config() | group)
        return self._consumers[application]

    def close(self) -> None:
        """Release the clients; the processes end with their deployment."""
        self.user_service.close()
        for consumer in self._consumers.values():
            consumer.close()

    def members(self, application: str) -> dict[int, set[int]]:
        """Partitions of each instance in an application's group, from the group coordinator.

        An instance that has exited stays a member until its session times out.
        """
        name = self.settings.group(application)
        future = self._admin.describe_consumer_groups([name], request_timeout=ADMIN_TIMEOUT_S)[name]
        found: dict[int, set[int]] = {}
        for member in future.result(timeout=2 * ADMIN_TIMEOUT_S).members:
            instance = int(member.group_instance_id.rpartition("-")[2])
            at = member.assignment.topic_partitions if member.assignment else []
            found[instance] = {tp.partition for tp in at}
        return found


def parts(name: str) -> tuple[str, int]:
    """`shards-1` -> (shards, 1); `router` -> (router, 0)."""
    application, _, number = name.partition("-")
    return application, int(number or 0)


@contextlib.contextmanager
def start_cluster(
    data_dir: Path, names: list[str], *, bootstrap_servers: str | None = None, **overrides: Any
) -> Iterator[Cluster]:
    """A deployment with the example user service; nothing else is started.

    Without `bootstrap_servers` it starts its own broker, which can be restarted. `overrides` are
    settings.
    """
    with contextlib.ExitStack() as stack:
        broker = None
        if bootstrap_servers is None:
            broker = EmbeddedKafka(data_dir / "broker")
            broker.start()
            stack.callback(broker.kill)
            bootstrap_servers = broker.bootstrap_servers
        base_url = f"http://127.0.0.1:{free_port()}"
        settings = stack.enter_context(
            deployments.deployment(
                bootstrap_servers,
                data_dir / "data",
                user_service={"base_url": base_url, **FAST_USER_SERVICE},
                **overrides,
            )
        )
        cluster = Cluster(settings, names, broker)
        stack.callback(cluster.close)
        cluster.user_service.start(USERS)
        yield cluster
