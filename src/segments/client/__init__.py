"""Typed HTTP client of the service, synchronous or asynchronous.

    with SegmentsClient("http://127.0.0.1:8080") as client:
        client.change(user_id, add=["beta", Add("trial", ttl=timedelta(days=7))])
        print(client.user_segments(user_id).names)

Every write has an idempotency key, generated once per call, so that retries take effect only once.
Accepted commands are polled until they are decided. Responses carry their freshness. Problems are
exceptions (`segments.client.errors`). The client needs no Kafka and loads no code of the service.
"""

from segments.client.async_driver import AsyncItems
from segments.client.call import Retries
from segments.client.clients import AsyncSegmentsClient, SegmentsClient
from segments.client.errors import (
    AnswerError,
    ConflictError,
    ForbiddenError,
    IncompleteError,
    InvalidError,
    NotFoundError,
    PendingError,
    ProblemError,
    RateLimitedError,
    RejectedError,
    SegmentsError,
    SessionError,
    StaleError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from segments.client.inputs import Add, Rule
from segments.client.models import (
    Accepted,
    Health,
    HistoryRow,
    Imported,
    Member,
    Membership,
    MembershipDetail,
    Preview,
    ReportJob,
    Result,
    Segment,
    UserSegments,
    UserState,
)
from segments.client.sync_driver import Items

__all__ = [
    "Accepted",
    "Add",
    "AnswerError",
    "AsyncItems",
    "AsyncSegmentsClient",
    "ConflictError",
    "ForbiddenError",
    "Health",
    "HistoryRow",
    "Imported",
    "IncompleteError",
    "InvalidError",
    "Items",
    "Member",
    "Membership",
    "MembershipDetail",
    "NotFoundError",
    "PendingError",
    "Preview",
    "ProblemError",
    "RateLimitedError",
    "RejectedError",
    "ReportJob",
    "Result",
    "Retries",
    "Rule",
    "Segment",
    "SegmentsClient",
    "SegmentsError",
    "SessionError",
    "StaleError",
    "UnauthorizedError",
    "UnavailableError",
    "UnreachableError",
    "UserSegments",
    "UserState",
]
