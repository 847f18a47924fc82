"""The one catalogue of metrics. Names are `segments_<what>_<unit>`; every process serves them."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, start_http_server

_FAST_S = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

RECORDS = Counter("segments_records_total", "Records consumed", ["application", "topic"])
LAG_RECORDS = Gauge(
    "segments_lag_records", "Records not yet consumed", ["application", "topic", "partition"]
)
LAG_SECONDS = Gauge(
    "segments_lag_seconds", "Age of the last consumed record", ["application", "topic", "partition"]
)
DLQ_RECORDS = Counter(
    "segments_dlq_records_total", "Records sent to the dead letter queue", ["application", "stage"]
)
COMMANDS = Counter(
    "segments_commands_total",
    "Commands by outcome; outcome is the error code or the status",
    ["outcome"],
)
APPLY_SECONDS = Histogram(
    "segments_apply_seconds", "Time the state machine took for a sampled record", buckets=_FAST_S
)
CHECKPOINT_SECONDS = Histogram(
    "segments_checkpoint_seconds",
    "Time from a checkpoint's start to its commit",
    ["application"],
    buckets=_FAST_S,
)
DUPLICATES_DROPPED = Counter(
    "segments_duplicates_dropped_total",
    "Log records dropped because their source position was applied before",
)
JOBS = Gauge("segments_jobs_count", "Sliced jobs with work left", ["partition"])
TIMERS = Gauge("segments_timers_count", "Users with something due later", ["partition"])
USERS = Gauge("segments_users_count", "Users a shard knows", ["partition"])
HISTORY_ROWS = Counter("segments_history_rows_total", "Rows written to the history store")
VIEW_STALENESS_SECONDS = Gauge(
    "segments_view_staleness_seconds",
    "Age of a partition's newest progress marker in the view",
    ["partition"],
)
VIEW_RECORDS = Counter("segments_view_records_total", "Records applied to the view", ["topic"])
HTTP_SECONDS = Histogram(
    "segments_http_request_seconds", "HTTP requests", ["method", "route", "status"], buckets=_FAST_S
)
USER_SERVICE_SECONDS = Histogram(
    "segments_user_service_call_seconds",
    "Calls to the user service by outcome",
    ["outcome"],
    buckets=_FAST_S,
)
USER_SERVICE_GIVEN_UP = Counter(
    "segments_user_service_given_up_total", "User events given up and sent to the DLQ"
)


def serve(host: str, port: int) -> int:
    """Serve the catalogue in a daemon thread; the port in use. OSError when it is taken."""
    server, _ = start_http_server(port, addr=host)
    return int(server.server_port)
