"""The one catalogue of metrics: `segments_<what>_<unit>`, and which applications serve each.

Names follow the conventions of Prometheus: base units, `_total` for counters and for nothing else.
The values of every label are bounded: what a client makes up never becomes one. What is set for
every record is a counter; everything else is told about once a second, or when it is scraped.
"""

from __future__ import annotations

from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics import MetricWrapperBase

# A second series for each counter and histogram, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]

APPLICATIONS = ("router", "users", "shards", "history", "http")
STREAM_APPLICATIONS = APPLICATIONS[:4]
SERVED_BY: dict[MetricWrapperBase, tuple[str, ...]] = {}
"""The applications that serve a metric."""

_FAST_S = (0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

AnyMetric = TypeVar("AnyMetric", bound=MetricWrapperBase)


def _of(applications: tuple[str, ...], metric: AnyMetric) -> AnyMetric:
    """Take a metric into the catalogue."""
    SERVED_BY[metric] = applications
    return metric


# --- every process ---

BUILD_INFO = _of(
    APPLICATIONS,
    Gauge(
        "segments_build_info",
        "1; the labels say what runs",
        ["application", "version", "quixstreams", "python"],
    ),
)

# --- what reads a topic ---

RECORDS = _of(
    STREAM_APPLICATIONS,
    Counter("segments_records_total", "Records consumed", ["application", "topic"]),
)
LAG_RECORDS = _of(
    STREAM_APPLICATIONS,
    Gauge(
        "segments_lag_records", "Records not yet consumed", ["application", "topic", "partition"]
    ),
)
LAG_SECONDS = _of(
    STREAM_APPLICATIONS,
    Gauge(
        "segments_lag_seconds",
        "Age of the newest consumed record when it was consumed, or how long nothing has been "
        "consumed while records wait, if that is longer; 0 = nothing was waiting",
        ["application", "topic", "partition"],
    ),
)
LAST_TURN_TIMESTAMP_SECONDS = _of(
    STREAM_APPLICATIONS,
    Gauge(
        "segments_last_turn_timestamp_seconds",
        "Unix time of the last turn of the processing loop; the start of the process before it",
        ["application"],
    ),
)
CHECKPOINT_SECONDS = _of(
    STREAM_APPLICATIONS,
    Histogram(
        "segments_checkpoint_seconds",
        "Time to commit a checkpoint: what it produced is delivered, its offsets are committed",
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
        "Records that are on their way to Kafka, or wait for it",
        ["application"],
    ),
)
PRODUCER_QUEUE_LIMIT_RECORDS = _of(
    APPLICATIONS,
    Gauge(
        "segments_producer_queue_limit_records",
        "Records that the producer's queue holds at most",
        ["application"],
    ),
)
DATA_DIR_FREE_BYTES = _of(
    ("shards", "history", "http"),
    Gauge("segments_data_dir_free_bytes", "Space left on the disk of data_dir"),
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
        "Commands by outcome; outcome is the error code or the status",
        ["outcome"],
    ),
)

# --- users ---

USER_SERVICE_SECONDS = _of(
    ("users",),
    Histogram(
        "segments_user_service_call_seconds",
        "Calls to the user service by outcome",
        ["outcome"],
        buckets=_FAST_S,
    ),
)
USER_SERVICE_LAST_SUCCESS = _of(
    ("users",),
    Gauge(
        "segments_user_service_last_success_timestamp_seconds",
        "Unix time of the last usable answer; 0 = none since the start",
    ),
)
USER_SERVICE_GIVEN_UP = _of(
    ("users",),
    Counter("segments_user_service_given_up_total", "User events given up and sent to the DLQ"),
)

# --- shards ---

PARTITIONS = _of(
    ("shards",), Gauge("segments_partitions", "Shards of the deployment, wherever they run")
)
APPLY_SECONDS = _of(
    ("shards",),
    Histogram(
        "segments_apply_seconds",
        "Time the state machine took for a sampled record",
        buckets=_FAST_S,
    ),
)
DUPLICATES_DROPPED = _of(
    ("shards",),
    Counter(
        "segments_duplicates_dropped_total",
        "Log records dropped because their source position was applied before",
    ),
)
JOBS = _of(("shards",), Gauge("segments_jobs", "Sliced jobs with work left", ["partition"]))
OLDEST_JOB_AGE_SECONDS = _of(
    ("shards",),
    Gauge(
        "segments_oldest_job_age_seconds",
        "Age of the oldest job with work left; 0 = there is none",
        ["partition"],
    ),
)
TIMERS = _of(("shards",), Gauge("segments_timers", "Users with something due later", ["partition"]))
PARKED_USERS = _of(
    ("shards",),
    Gauge(
        "segments_parked_users",
        "Users whose commands wait for a segment not yet heard of",
        ["partition"],
    ),
)
KNOWN_USERS = _of(("shards",), Gauge("segments_users", "Users a shard knows", ["partition"]))

# --- history ---

HISTORY_ROWS = _of(
    ("history",), Counter("segments_history_rows_total", "Rows written to the history store")
)

# --- http ---

READY = _of(("http",), Gauge("segments_ready", "1 while /readyz says ready, else 0"))
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
        "How far the history store is behind the view, at least",
        ["partition"],
    ),
)
HTTP_SECONDS = _of(
    ("http",),
    Histogram(
        "segments_http_request_seconds",
        "HTTP requests",
        ["method", "route", "status"],
        buckets=_FAST_S,
    ),
)
HTTP_WAITERS = _of(
    ("http",), Gauge("segments_http_waiters", "Requests that wait for a result or a position")
)
HTTP_WAITERS_LIMIT = _of(
    ("http",), Gauge("segments_http_waiters_limit", "Waiting requests at most (http.max_waiters)")
)
HTTP_STREAMS = _of(
    ("http",), Gauge("segments_http_streams", "Long answers and imports on their way")
)
HTTP_STREAMS_LIMIT = _of(
    ("http",), Gauge("segments_http_streams_limit", "Of those at most (http.max_streams)")
)
HTTP_CUT_OFF = _of(
    ("http",),
    Counter(
        "segments_http_cut_off_total",
        "Connections ended: no whole head in time, an answer not read, idle or new where all are "
        "taken",
        ["reason"],
    ),
)

# --- reports that are put somewhere ---

REPORT_JOBS = _of(
    ("http",),
    Gauge(
        "segments_report_jobs",
        "Jobs that put reports somewhere, as they are remembered, by kind of destination",
        ["state", "kind"],
    ),
)
REPORT_JOB_SECONDS = _of(
    ("http",),
    Histogram(
        "segments_report_job_seconds",
        "Time from a job's start to its end; outcome is the error code or done",
        ["kind", "outcome"],
        buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200),
    ),
)
REPORT_BYTES = _of(
    ("http",),
    Counter("segments_report_bytes_total", "Bytes of the last try of each ended job", ["kind"]),
)
REPORT_JOBS_ENDED = _of(
    ("http",),
    Counter(
        "segments_report_jobs_ended_total",
        "Jobs that were begun and have ended: done, failed or cancelled",
        ["kind", "end"],
    ),
)
