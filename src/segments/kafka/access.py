"""Access to Kafka: credentials of the embedded broker, and a client that waits to be accepted.

The embedded broker requires the credentials that its clients are configured with.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from confluent_kafka import KafkaError as ClientError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from segments.settings import Settings

ACCESS_TIMEOUT_S = 30.0
_ATTEMPT_S = 1.0
_MODULE = "org.apache.kafka.common.security.plain.PlainLoginModule"
_USER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
_REFUSED = (
    ClientError._AUTHENTICATION,  # noqa: SLF001 - a public error code
    ClientError._SSL,  # noqa: SLF001 - a public error code
    ClientError.SASL_AUTHENTICATION_FAILED,
)


class KafkaError(RuntimeError):
    """Kafka cannot be started or used; the message says why.

    `causes`: the errors that a client reported, each code once.
    """

    def __init__(self, message: str, causes: Sequence[ClientError] = ()) -> None:
        super().__init__(message)
        self.causes = causes


class Credentials(NamedTuple):
    """A user of the embedded broker, by SASL PLAIN."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, **********)"

    def of_client(self) -> dict[str, Any]:
        """Options of librdkafka."""
        return {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": self.user,
            "sasl.password": self.password,
        }

    def of_broker(self, *listeners: str) -> str:
        """Lines of the broker's properties. `listeners`: their names in lower case."""
        user, password = _quoted(self.user), _quoted(self.password)
        jaas = (
            f"{_MODULE} required username={user} password={password} user_{self.user}={password};"
        )
        lines = [
            "sasl.enabled.mechanisms=PLAIN",
            "sasl.mechanism.inter.broker.protocol=PLAIN",
            "sasl.mechanism.controller.protocol=PLAIN",
        ]
        value = _property(jaas)
        lines += [f"listener.name.{name}.plain.sasl.jaas.config={value}" for name in listeners]
        return "\n".join([*lines, ""])


def _quoted(text: str) -> str:
    """A quoted string of a JAAS configuration."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _property(value: str) -> str:
    """A value of a Java properties file: backslashes escaped, other than ASCII as `\\uXXXX`."""
    units = value.replace("\\", "\\\\").encode("utf-16-be")
    codes = [int.from_bytes(units[place : place + 2], "big") for place in range(0, len(units), 2)]
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)


def credentials_of(settings: Settings) -> Credentials | None:
    """The credentials that the embedded broker requires; None = no authentication.

    KafkaError unless kafka.options select PLAINTEXT, or SASL_PLAINTEXT with PLAIN.
    """
    client = settings.client_config()
    protocol = str(client.get("security.protocol", "plaintext")).upper()
    if protocol == "PLAINTEXT":
        return None
    mechanism = client.get("sasl.mechanism", client.get("sasl.mechanisms", ""))
    if protocol != "SASL_PLAINTEXT" or mechanism != "PLAIN":
        raise KafkaError(
            "the embedded Kafka supports PLAINTEXT, or SASL_PLAINTEXT with PLAIN: "
            f"kafka.options select {protocol} {mechanism}".rstrip()
        )
    user, password = client.get("sasl.username", ""), client.get("sasl.password", "")
    if not _USER_NAME.fullmatch(user):
        raise KafkaError(
            "sasl.username of the embedded Kafka may have letters, digits, `.`, `_`, `-`"
        )
    if not password or not password.isprintable():
        raise KafkaError("the embedded Kafka needs kafka.password, of printable characters")
    return Credentials(user, password)


def admin_client(
    settings: Settings, timeout_s: float = ACCESS_TIMEOUT_S, **options: Any
) -> AdminClient:
    """A client that a broker has authenticated. KafkaError with the reason when none has.

    Without this check a client would reconnect forever and report only a timeout. `options` are
    options of librdkafka.
    """
    errors: dict[int, ClientError] = {}

    def record(error: ClientError) -> None:
        errors[error.code()] = error

    # At higher levels librdkafka logs the state of its queues, which is of no use to an operator.
    config = {"log_level": 4} | settings.client_config() | options
    admin = AdminClient(config | {"error_cb": record})
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            if admin.list_topics(timeout=min(_ATTEMPT_S, timeout_s)).brokers:
                return admin
        except KafkaException as error:
            record(error.args[0])
        admin.poll(0)
        causes = list(errors.values())
        if refused := [error.str() for error in causes if error.code() in _REFUSED]:
            raise KafkaError(_refusal(settings, refused[0]), causes)
        if time.monotonic() > deadline_s:
            reasons = "; ".join(error.str() for error in causes) or "no response"
            raise KafkaError(
                f"Kafka at {settings.kafka.bootstrap_servers} was not reached within "
                f"{timeout_s:.0f} s: {reasons}. "
                "Is it running, and does security.protocol in kafka.options match its listener?",
                causes,
            )


def _refusal(settings: Settings, reason: str) -> str:
    return (
        f"Kafka at {settings.kafka.bootstrap_servers} refused the connection: {reason}. "
        "Check kafka.options (security.protocol, sasl.mechanism, sasl.username, ssl.…) "
        "and kafka.password."
    )
