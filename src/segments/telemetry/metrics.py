"""The catalogue of metrics, each declared once: type, name, help, labels, serving applications.

Names follow the Prometheus conventions, `segments_<what>_<unit>`: base units, `_total` for counters
only. Label values are bounded: no value is taken from a client. Only counters are updated per
record; everything else is set about once a second or on a scrape.
"""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

# The `_created` series double the number of counter and histogram series and are not used.
disable_created_metrics()  # type: ignore[no-untyped-call]

APPLICATIONS = ("router", "users", "shards", "history", "http")
STREAM_APPLICATIONS = APPLICATIONS[:4]
SERVED_BY: dict[MetricWrapperBase, tuple[str, ...]] = {}
"""Metric -> the applications that serve it."""

_FAST_S = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

AnyMetric = TypeVar("AnyMetric", bound=MetricWrapperBase)


def _of(applications: tuple[str, ...], metric: AnyMetric) -> AnyMetric:
    """Add a metric to the catalogue."""
    SERVED_BY[metric] = applications
    return metric


# --- every process ---

BUILD_INFO = _of(
    APPLICATIONS,
    Gauge(
        "segments_build_info",
        "Always 1; the labels hold the versions that are running",
        ["application", "version", "quixstreams", "python"],
    ),
)

# --- applications that consume topics ---

RECORDS = _of(
    STREAM_APPLICATIONS,
    Counter("segments_records_total", "Records consumed", ["application", "topic"]),
)
LAG_RECORDS = _of(
    STREAM_APPLICATIONS,
    Gauge(
        "segments_lag_records",
        "Records after the consumed position",
        ["application", "topic", "partition"],
    ),
)
LAG_SECONDS = _of(
    STREAM_APPLICATIONS,
    Gauge(
        "segments_lag_seconds",
        "Age of the newest consumed record when it was consumed, or the time since the last "
        "consumption while there is a lag, if that is longer; 0 = no lag",
        ["application", "topic", "partition"],
    ),
)
LAST_TURN_TIMESTAMP_SECONDS = _of(
    STREAM_APPLICATIONS,
    Gauge(
        "segments_last_turn_timestamp_seconds",
        "Unix time of the last turn of the processing loop; before the first turn, of the start",
        ["application"],
    ),
)
CHECKPOINT_SECONDS = _of(
    STREAM_APPLICATIONS,
    Histogram(
        "segments_checkpoint_seconds",
        "Time to commit a checkpoint: until its records are delivered and its offsets committed",
        ["application"],
        buckets=_FAST_S,
    ),
)
DLQ_RECORDS = _of(
    ("router", "users"),
    Counter(
        "segments_dlq_records_total",
        "Records sent to the dead letter queue",
        ["application", "stage"],
    ),
)
PRODUCER_QUEUE_RECORDS = _of(
    APPLICATIONS,
    Gauge(
        "segments_producer_queue_records",
        "Records in the producer's queue, including those in flight",
        ["application"],
    ),
)
PRODUCER_QUEUE_LIMIT_RECORDS = _of(
    APPLICATIONS,
    Gauge(
        "segments_producer_queue_limit_records",
        "Capacity of the producer's queue in records",
        ["application"],
    ),
)
DATA_DIR_FREE_BYTES = _of(
    ("shards", "history", "http"),
    Gauge("segments_data_dir_free_bytes", "Free space on the disk of data_dir"),
)
DATA_DIR_SIZE_BYTES = _of(
    ("shards", "history", "http"),
    Gauge("segments_data_dir_size_bytes", "Size of the disk of data_dir"),
)

# --- router and shards ---

COMMANDS_TOTAL = _of(
    ("router", "shards"),
    Counter(
        "segments_commands_total",
        "Commands; outcome is the error code, or the status of the result",
        ["outcome"],
    ),
)

# --- users ---

USER_SERVICE_SECONDS = _of(
    ("users",),
    Histogram(
        "segments_user_service_call_seconds",
        "Duration of calls to the user service",
        ["outcome"],
        buckets=_FAST_S,
    ),
)
USER_SERVICE_LAST_SUCCESS = _of(
    ("users",),
    Gauge(
        "segments_user_service_last_success_timestamp_seconds",
        "Unix time of the last usable response; 0 = none since the start",
    ),
)
USER_SERVICE_GIVEN_UP = _of(
    ("users",),
    Counter(
        "segments_user_service_given_up_total",
        "Refreshes given up and sent to the dead letter queue",
    ),
)

# --- shards ---

PARTITIONS = _of(
    ("shards",),
    Gauge("segments_partitions", "Number of shards of the deployment, on all processes"),
)
APPLY_SECONDS = _of(
    ("shards",),
    Histogram(
        "segments_apply_seconds",
        "Time to apply a record to the state machine, sampled",
        buckets=_FAST_S,
    ),
)
DUPLICATES_DROPPED = _of(
    ("shards",),
    Counter(
        "segments_duplicates_dropped_total",
        "Log records dropped because their source position was already applied",
    ),
)
JOBS = _of(("shards",), Gauge("segments_jobs", "Unfinished jobs", ["partition"]))
OLDEST_JOB_AGE_SECONDS = _of(
    ("shards",),
    Gauge(
        "segments_oldest_job_age_seconds",
        "Age of the oldest unfinished job; 0 = none",
        ["partition"],
    ),
)
TIMERS = _of(("shards",), Gauge("segments_timers", "Users with a pending timer", ["partition"]))
PARKED_USERS = _of(
    ("shards",),
    Gauge(
        "segments_parked_users",
        "Users with commands deferred until a segment becomes known",
        ["partition"],
    ),
)
KNOWN_USERS = _of(("shards",), Gauge("segments_users", "Users in the shard", ["partition"]))

# --- history ---

HISTORY_ROWS = _of(
    ("history",), Counter("segments_history_rows_total", "Rows written to the history store")
)

# --- http ---

READY = _of(("http",), Gauge("segments_ready", "1 while /readyz returns 200, else 0"))
VIEW_STALENESS_SECONDS = _of(
    ("http",),
    Gauge(
        "segments_view_staleness_seconds",
        "Age of a partition's newest progress marker in the view",
        ["partition"],
    ),
)
VIEW_RECORDS = _of(
    ("http",), Counter("segments_view_records_total", "Records applied to the view", ["topic"])
)
HISTORY_BEHIND_SECONDS = _of(
    ("http",),
    Gauge(
        "segments_history_behind_seconds",
        "Lower bound of the history store's lag behind the view",
        ["partition"],
    ),
)
HTTP_SECONDS = _of(
    ("http",),
    Histogram(
        "segments_http_request_seconds",
        "Duration of HTTP requests",
        ["method", "route", "status"],
        buckets=_FAST_S,
    ),
)
HTTP_WAITERS = _of(
    ("http",), Gauge("segments_http_waiters", "Requests waiting for a result or a position")
)
HTTP_WAITERS_LIMIT = _of(
    ("http",), Gauge("segments_http_waiters_limit", "Limit of waiting requests (http.max_waiters)")
)
HTTP_STREAMS = _of(
    ("http",), Gauge("segments_http_streams", "Streamed responses and imports in progress")
)
HTTP_STREAMS_LIMIT = _of(
    ("http",), Gauge("segments_http_streams_limit", "Limit of streams (http.max_streams)")
)
HTTP_CUT_OFF = _of(
    ("http",),
    Counter(
        "segments_http_cut_off_total",
        "Connections closed by the sidecar: request head incomplete in time, response not read, "
        "or idle or new at the connection limit",
        ["reason"],
    ),
)

# --- delivery of reports ---

REPORT_JOBS = _of(
    ("http",),
    Gauge(
        "segments_report_jobs",
        "Report jobs in the job store",
        ["state", "kind"],
    ),
)
REPORT_JOB_SECONDS = _of(
    ("http",),
    Histogram(
        "segments_report_job_seconds",
        "Time from the start of a report job to its end; outcome is the error code, or done",
        ["kind", "outcome"],
        buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
    ),
)
REPORT_BYTES = _of(
    ("http",),
    Counter(
        "segments_report_bytes_total",
        "Bytes sent by the last attempt of each ended report job",
        ["kind"],
    ),
)
REPORT_JOBS_ENDED = _of(
    ("http",),
    Counter(
        "segments_report_jobs_ended_total",
        "Report jobs that have ended: done, failed or cancelled",
        ["kind", "end"],
    ),
)
