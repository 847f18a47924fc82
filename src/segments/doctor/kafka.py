"""Kafka: whether it is reached, what it speaks, and whether its topics are as they must be."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from segments.doctor.findings import Finding, fail, ok, warn
from segments.kafka import topics
from segments.settings import Settings

_ADDRESS = "set kafka.bootstrap_servers to where brokers listen, and see that they run"
_TODO: dict[int, tuple[str, str]] = {
    KafkaError._AUTHENTICATION: (  # noqa: SLF001 - librdkafka's own codes are named so
        "the credentials are refused (SASL)",
        "set sasl.username in kafka.options and kafka.password as the brokers know them",
    ),
    KafkaError.SASL_AUTHENTICATION_FAILED: (
        "the credentials are refused (SASL)",
        "set sasl.username in kafka.options and kafka.password as the brokers know them",
    ),
    KafkaError.UNSUPPORTED_SASL_MECHANISM: (
        "the brokers do not offer this SASL mechanism",
        "set sasl.mechanism in kafka.options to one that they offer",
    ),
    KafkaError._SSL: (  # noqa: SLF001 - as above
        "no TLS connection",
        "set ssl.ca.location in kafka.options, and a host name that the certificate has",
    ),
    KafkaError._RESOLVE: ("the host name is not known", _ADDRESS),  # noqa: SLF001 - as above
    KafkaError.CLUSTER_AUTHORIZATION_FAILED: (
        "the user may not ask for metadata",
        "give it the rights that docs/operations.md lists",
    ),
}
_CONNECT_S = 0.5
_PROTOCOL = re.compile(r"security\.protocol|incorrect|ApiVersion|before handshake", re.IGNORECASE)
_API = re.compile(r"ApiKey (\w+) \((\d+)\) Versions (\d+)\.\.(\d+)")
_NEEDED = {"Produce": 3, "Fetch": 4, "InitProducerId": 0, "TxnOffsetCommit": 3}
"""API versions without which exactly-once processing does not work."""


class Errors:
    """What the client says goes wrong while it tries."""

    def __init__(self) -> None:
        self.seen: list[KafkaError] = []

    def __call__(self, error: KafkaError) -> None:
        self.seen.append(error)


def look(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Whether brokers answer to these settings."""
    errors = Errors()
    try:
        admin = client(settings, error_cb=errors)
    except KafkaException as error:
        todo = "correct kafka.options: the client does not take them"
        yield fail("kafka", error.args[0].str(), todo)
        return
    try:
        found = admin.list_topics(timeout=timeout_s)
    except KafkaException as error:
        admin.poll(0)  # hands the errors over
        servers = settings.kafka.bootstrap_servers
        there = listens(servers, _CONNECT_S)
        yield unreachable(servers, [*errors.seen, error.args[0]], listens=there)
    else:
        brokers = ", ".join(f"{each.host}:{each.port}" for each in found.brokers.values())
        yield ok("kafka", f"{len(found.brokers)} brokers answer: {brokers}")


def client(settings: Settings, **options: Any) -> AdminClient:
    """A client that says nothing on its own."""
    return AdminClient(settings.client_config() | {"log_level": 0} | options)


def unreachable(servers: str, errors: list[KafkaError], *, listens: bool = False) -> Finding:
    """What the errors of a client that got no answer mean, the most telling of them.

    `listens`: something takes connections there.
    """
    for error in errors:
        if error.code() in _TODO:
            seen, todo = _TODO[error.code()]
            return fail("kafka", f"{servers}: {seen}: {error.str()}", todo)
    if listens or any(_PROTOCOL.search(error.str()) for error in errors):
        return fail(
            "kafka",
            f"{servers}: something listens there, and does not answer: {_telling(errors)}",
            "set security.protocol in kafka.options to what the brokers listen with",
        )
    return fail("kafka", f"{servers}: {_telling(errors)}", _ADDRESS)


def _telling(errors: list[KafkaError]) -> str:
    """The words of the error that says most: that all brokers are down says little."""
    general = KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001 - as above
    told = [error.str() for error in errors if error.code() != general]
    return told[0] if told else "no answer"


def listens(servers: str, timeout_s: float) -> bool:
    """Whether any of the addresses takes a connection."""
    for server in servers.split(","):
        host, _, port = server.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout_s):
                return True
        except (OSError, ValueError):
            continue
    return False


def look_at_topics(settings: Settings, _timeout_s: float) -> Iterator[Finding]:
    """Whether every topic stands as topics.yaml says."""
    try:
        topics.check(settings)
    except topics.TopicsError as error:
        missing = [fault for fault in error.faults if fault.endswith(": missing")]
        todo = "segments topics apply" if missing else "alter the topic or the setting to agree"
        for fault in error.faults:
            yield fail("topics", fault, todo)
    else:
        yield ok(
            "topics",
            f"{len(topics.load())} topics stand as they should, with {settings.partitions} "
            "partitions of the log",
        )


def look_at_api(settings: Settings, timeout_s: float) -> Iterator[Finding]:
    """Which versions of its interface the broker speaks, as it says when a client connects."""
    spoken = Spoken()
    logger = logging.Logger("doctor")  # noqa: LOG001 - of this client alone
    logger.addHandler(spoken)
    admin = client(settings, logger=logger, log_level=7, debug="feature")
    admin.list_topics(timeout=timeout_s)
    # The client hands its log over when it is polled.
    for _ in range(20):
        if spoken.known.is_set():
            break
        admin.poll(timeout_s / 20)
    yield spoken_finding(spoken.versions)


class Spoken(logging.Handler):
    """Takes the versions out of what the client logs of a broker's answer."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.versions: dict[str, tuple[int, int]] = {}
        self.known = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """A line of the client's log."""
        if match := _API.search(record.getMessage()):
            self.versions[match[1]] = int(match[3]), int(match[4])
            if self.versions.keys() >= _NEEDED.keys():
                self.known.set()


def spoken_finding(versions: dict[str, tuple[int, int]]) -> Finding:
    """Whether what a broker speaks is enough."""
    if not versions.keys() >= _NEEDED.keys():
        return warn("broker API", "the broker did not say what it speaks", "see its version")
    seen = ", ".join(f"{name} {versions[name][0]}-{versions[name][1]}" for name in _NEEDED)
    old = [name for name, least in _NEEDED.items() if versions[name][1] < least]
    if old:
        return fail("broker API", f"too old: {seen}", "use Kafka 2.5 or newer; 4.1 is tested")
    return ok("broker API", seen)
