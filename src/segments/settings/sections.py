"""What each part of the service can be told; `Settings` puts the sections together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from segments.settings.redaction import redacted


class Section(BaseModel):
    """Unknown names are refused: a misspelt setting is not silently the default."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        # Whatever prints settings, a traceback or a test, prints no secret.
        return [(name, redacted(value)) for name, value in super().__repr_args__()]


class KafkaSettings(Section):
    """Where Kafka is and how clients reach it."""

    bootstrap_servers: str = Field(
        "127.0.0.1:19092", description="`host:port` of brokers, with commas between"
    )
    options: dict[str, str] = Field(
        default_factory=dict,
        description="passed to librdkafka as they are, for SASL and TLS: a JSON object",
    )
    password: SecretStr | None = Field(None, description="becomes `sasl.password` of every client")
    prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._-]*$",
        description="put before every topic and group: several deployments on one cluster",
    )
    embedded: bool = Field(
        default=False, description="`segments up` starts the embedded broker itself"
    )
    replication_factor: int = Field(
        1, ge=1, le=10, description="of topics that `segments topics apply` creates"
    )
    cloudevents: bool = Field(
        default=False,
        description="results and history rows are CloudEvents too, by headers; values stay",
    )
    message_max_bytes: int = Field(
        16_777_216,
        ge=1_048_576,
        description="largest record a client sends: state row, document or definition",
    )


class HttpSettings(Section):
    """The query sidecar."""

    host: str = Field(
        "127.0.0.1", description="address to listen on; beyond loopback only with `auth`"
    )
    port: int = Field(8080, ge=0, le=65535, description="port to listen on; 0 = any free one")
    public_url: str | None = Field(
        None, description="beginning of report links; none = as the request came"
    )
    max_body_bytes: int = Field(1_048_576, ge=1024, description="largest body of a request")
    max_batch_bytes: int = Field(
        16_777_216, ge=1024, description="largest body of `POST /v1/commands`"
    )
    wait_s: float = Field(5.0, gt=0, description="wait of a request without `Prefer: wait`")
    max_wait_s: float = Field(
        30.0, gt=0, description="longest wait that `Prefer: wait` can ask for"
    )
    ready_lag_ms: int = Field(
        5_000,
        ge=100,
        description="a view staler than this is not ready; reports may lack this much of now",
    )
    read_threads: int = Field(
        4, ge=1, le=64, description="threads for reads that are heavy on CPU or disk"
    )
    max_streams: int = Field(
        16, ge=1, description="reports, lists and imports on their way at a time"
    )
    max_waiters: int = Field(
        10_000, ge=1, description="requests that wait for a result or a position"
    )
    max_connections: int = Field(
        1_000, ge=1, description="open connections; beyond it idle ones are closed, or new ones"
    )
    header_timeout_s: float = Field(
        10.0, gt=0, description="longest wait for the whole head of a request once it may come"
    )
    rate_limit_per_s: float | None = Field(
        None, gt=0, description="requests a second of one client, by name or address; none = any"
    )
    rate_burst: int | None = Field(
        None, ge=1, description="requests of a rested client at once; none = those of a second"
    )
    failed_auth_per_min: int = Field(
        300, ge=0, description="credentials that are not good from one address; 0 = any number"
    )
    result_retention_s: int = Field(
        86_400, ge=60, description="how long the view keeps results of commands"
    )
    partitions: list[int] | None = Field(
        None, description="partitions of users this view keeps: a JSON list; none = all"
    )

    @model_validator(mode="after")
    def _burst_of_a_rate(self) -> HttpSettings:
        if self.rate_burst is not None and self.rate_limit_per_s is None:
            raise ValueError("rate_burst goes with rate_limit_per_s")
        return self


class UserServiceSettings(Section):
    """The service that knows the users."""

    base_url: str | None = Field(
        None, description="where it is; none = only states given by hand are served"
    )
    path: str = Field("/users/{id}", description="joined to `base_url`; `{id}` is the user id")
    timeout_ms: int = Field(2_000, ge=10, description="longest wait for a whole answer")
    concurrency: int = Field(
        32, ge=1, le=1024, description="fetches at the same time in one process"
    )
    attempts: int = Field(3, ge=1, le=20, description="fetches of a user within one batch")
    backoff_ms: int = Field(100, ge=1, description="first wait after a failure; it doubles")
    backoff_max_ms: int = Field(5_000, ge=1, description="longest wait between attempts")
    give_up_after_s: float = Field(
        600.0,
        gt=0,
        description="a user that fails this long while others succeed goes to the DLQ",
    )
    max_body_bytes: int = Field(65_536, ge=256, description="a larger answer is a failure")
    id_field: str = Field("id", description="field of the answer with the user id")
    state_field: str = Field("state", description="field of the answer with the state")
    version_field: str = Field(
        "version", description="field with a whole number that grows with each change, if any"
    )
    states: dict[str, Literal["active", "blocked", "deleted"]] = Field(
        default={"active": "active", "blocked": "blocked", "deleted": "deleted"},
        description="the user service's word for a state -> ours: a JSON object",
    )
    token: SecretStr | None = Field(None, description="sent as `Authorization: Bearer`")

    @model_validator(mode="after")
    def _one_authorization(self) -> UserServiceSettings:
        if self.token is not None and "@" in urlsplit(self.base_url or "").netloc:
            raise ValueError("give a token, or a user in base_url: only one can be sent")
        return self


class LimitSettings(Section):
    """Bounds of what a shard keeps: inputs of the state machine, so equal in every process.

    A replay of the log under other values gives another state.
    """

    segments_per_user: int = Field(2_000, ge=1, description="memberships a user has at most")
    segments: int = Field(100_000, ge=1, description="segments in use at most")
    parked_per_user: int = Field(
        64, ge=1, description="commands of a user that wait for a segment not yet heard of"
    )
    park_ms: int = Field(
        5_000, ge=0, description="longest wait for a segment not yet heard of, in log time"
    )
    remembered_ids: int = Field(
        64, ge=1, description="newest command ids a user or segment remembers"
    )
    job_slice: int = Field(1_000, ge=1, description="users a tick works on")
    log_record_bytes: int = Field(
        900_000, ge=1_000, description="larger commands go to the DLQ; read by the router"
    )


class DevSettings(Section):
    """Methods for developers."""

    enabled: bool = Field(
        default=False, description="whether `/dev/users` exists: users changed by hand"
    )


class MetricsSettings(Section):
    """Where each process serves Prometheus metrics; the sidecar serves them on its own port."""

    enabled: bool = Field(default=True, description="whether they are served")
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int | None = Field(
        None, ge=0, le=65535, description="of this one process; none = the port of its kind below"
    )
    router_port: int = Field(9101, ge=0, le=65535, description="of router, plus 10 x `instance`")
    users_port: int = Field(9102, ge=0, le=65535, description="of users, plus 10 x `instance`")
    shards_port: int = Field(9103, ge=0, le=65535, description="of shards, plus 10 x `instance`")
    history_port: int = Field(9104, ge=0, le=65535, description="of history, plus 10 x `instance`")
