"""The sections of the settings; `Settings` combines them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from segments.settings.redaction import redacted


class Section(BaseModel):
    """Base of all sections. Unknown names are rejected, so that a typo is not silently ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # Printed settings, as in a traceback, must not contain secrets.
        return [(name, redacted(value)) for name, value in super().__repr_args__()]


class KafkaSettings(Section):
    """The Kafka cluster and how clients connect to it."""

    bootstrap_servers: str = Field(
        "127.0.0.1:19092", description="`host:port` of brokers, separated by commas"
    )
    options: dict[str, str] = Field(
        default_factory=dict,
        description="options of librdkafka, such as for SASL and TLS: a JSON object",
    )
    password: SecretStr | None = Field(None, description="`sasl.password` of every client")
    prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="prefix of every topic and group, for several deployments on one cluster",
    )
    embedded: bool = Field(
        default=False, description="whether `segments up` starts the embedded broker"
    )
    replication_factor: int = Field(
        1,
        ge=1,
        le=10,
        description="replication factor of topics created by `segments topics apply`",
    )
    cloudevents: bool = Field(
        default=False,
        description="adds CloudEvents headers to results and history rows; values are unchanged",
    )
    message_max_bytes: int = Field(
        16_777_216,
        ge=1_048_576,
        description="largest record that a client produces: state row, document or definition",
    )


class HttpSettings(Section):
    """The HTTP sidecar."""

    host: str = Field(
        "127.0.0.1", description="address to listen on; other than loopback only with `auth`"
    )
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 = any free port")
    public_url: str | None = Field(
        None, description="base URL of report links; none = from the request"
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="maximum size of a request body")
    max_batch_bytes: int = Field(
        16_777_216, ge=1024, description="maximum body size of `POST /v1/commands`"
    )
    wait_s: float = Field(5.0, gt=0, description="wait for a result without `Prefer: wait`")
    max_wait_s: float = Field(30.0, gt=0, description="maximum of `Prefer: wait`")
    ready_lag_ms: int = Field(
        5_000,
        ge=100,
        description="maximum staleness of a ready view; reports may lack this much of the "
        "most recent changes",
    )
    read_threads: int = Field(4, ge=1, le=64, description="threads for CPU- or disk-bound reads")
    max_streams: int = Field(
        16, ge=1, description="maximum number of concurrent reports, lists and imports"
    )
    max_waiters: int = Field(
        10_000, ge=1, description="maximum number of requests waiting for a result or a position"
    )
    max_connections: int = Field(
        1_000,
        ge=1,
        description="maximum number of connections; above it, idle or else new ones are closed",
    )
    header_timeout_s: float = Field(
        10.0, gt=0, description="timeout for the complete head of a request"
    )
    rate_limit_per_s: float | None = Field(
        None,
        gt=0,
        description="requests per second of a client, by name or address; none = unlimited",
    )
    rate_burst: int | None = Field(
        None, ge=1, description="burst of an idle client in requests; none = those of one second"
    )
    failed_auth_per_min: int = Field(
        300, ge=0, description="failed authentications from one address; 0 = unlimited"
    )
    result_retention_s: int = Field(
        86_400, ge=60, description="retention of command results in the view"
    )
    partitions: list[int] | None = Field(
        None, description="user partitions in this view: a JSON list; none = all"
    )

    @model_validator(mode="after")
    def _burst_requires_rate(self) -> HttpSettings:
        if self.rate_burst is not None and self.rate_limit_per_s is None:
            raise ValueError("rate_burst requires rate_limit_per_s")
        return self


class UserServiceSettings(Section):
    """The service that owns the user accounts."""

    base_url: str | None = Field(
        None,
        description="base URL of the service; none = only refreshes that carry a state are "
        "processed",
    )
    path: str = Field(
        "/users/{id}", description="path appended to `base_url`; `{id}` is the user id"
    )
    timeout_ms: int = Field(2_000, ge=10, description="timeout of a complete response")
    concurrency: int = Field(
        32, ge=1, le=1024, description="maximum number of concurrent fetches of a process"
    )
    attempts: int = Field(3, ge=1, le=20, description="attempts to fetch a user within one batch")
    backoff_ms: int = Field(100, ge=1, description="delay after the first failure; it doubles")
    backoff_max_ms: int = Field(5_000, ge=1, description="maximum delay between attempts")
    give_up_after_s: float = Field(
        600.0,
        gt=0,
        description="time after which a user that fails while others succeed goes to the DLQ",
    )
    max_body_bytes: int = Field(65_536, ge=256, description="maximum size of a response")
    id_field: str = Field("id", description="response field with the user id")
    state_field: str = Field("state", description="response field with the state")
    version_field: str = Field(
        "version", description="response field with an integer that grows with each change, if any"
    )
    states: dict[str, Literal["active", "blocked", "deleted"]] = Field(
        default={"active": "active", "blocked": "blocked", "deleted": "deleted"},
        description="state in the user service -> account state: a JSON object",
    )
    token: SecretStr | None = Field(None, description="sent as `Authorization: Bearer`")

    @model_validator(mode="after")
    def _one_authorization(self) -> UserServiceSettings:
        if self.token is not None and "@" in urlsplit(self.base_url or "").netloc:
            raise ValueError("set token, or credentials in base_url, but not both")
        return self


class LimitSettings(Section):
    """Limits of the state of a shard. They are inputs of the state machine: equal in all processes.

    A replay of the log with other values yields a different state.
    """

    segments_per_user: int = Field(
        2_000, ge=1, description="maximum number of memberships of a user"
    )
    segments: int = Field(100_000, ge=1, description="maximum number of segments")
    parked_per_user: int = Field(
        64,
        ge=1,
        description="maximum number of deferred commands of a user, which wait for an "
        "unknown segment",
    )
    park_ms: int = Field(
        5_000,
        ge=0,
        description="maximum time that a command is deferred for an unknown segment, in log time",
    )
    remembered_ids: int = Field(
        64, ge=1, description="number of recent command ids per user or segment, for deduplication"
    )
    job_slice: int = Field(1_000, ge=1, description="users processed per tick of a job")
    log_record_bytes: int = Field(
        900_000,
        ge=1_000,
        description="maximum size of a command; larger ones go to the DLQ; applied by the router",
    )


class DevSettings(Section):
    """Routes for development and tests."""

    enabled: bool = Field(
        default=False,
        description="whether `/dev/users` exists, which sets the state of users directly",
    )


class MetricsSettings(Section):
    """Where each process serves Prometheus metrics; the sidecar uses its HTTP port."""

    enabled: bool = Field(default=True, description="whether metrics are served")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="port of this process; none = the port of its application below",
    )
    router_port: int = Field(
        9101, ge=0, le=65535, description="port of router, plus 10 x `instance`"
    )
    users_port: int = Field(9102, ge=0, le=65535, description="port of users, plus 10 x `instance`")
    shards_port: int = Field(
        9103, ge=0, le=65535, description="port of shards, plus 10 x `instance`"
    )
    history_port: int = Field(
        9104, ge=0, le=65535, description="port of history, plus 10 x `instance`"
    )
