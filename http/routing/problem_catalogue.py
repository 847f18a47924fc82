"""Every type of problem in HTTP responses and when it occurs; source of the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from segments.http.routing.operation import ProblemType

OTHER = 0
"""Stands for a status that comes from the HTTP library."""

PROBLEM_TYPES: Mapping[ProblemType, str] = MappingProxyType(
    {
        (400, "invalid"): "a path, query parameter or header is invalid",
        (422, "invalid"): "a body or command is invalid",
        (400, "not_json"): "the body is not JSON",
        (400, "bad_body"): (
            "the body does not match its headers: invalid chunks or compression, or it ends early"
        ),
        (415, "content_type"): "the `Content-Type` of the body is not supported",
        (415, "content_encoding"): "the body is compressed; only imports may be, with gzip",
        (413, "body_too_large"): (
            "more than `http.max_body_bytes`, or `http.max_batch_bytes` for commands"
        ),
        (408, "body_timeout"): "the body did not arrive within 30 s",
        (408, "header_timeout"): (
            "the request head did not end within `http.header_timeout_s`; the connection is closed"
        ),
        (
            431,
            "head_too_large",
        ): "a line of the request head is too long, or there are too many headers",
        (404, "not_found"): "no such path",
        (
            405,
            "method_not_allowed",
        ): "the path does not have this method; `Allow` lists those it has",
        (OTHER, "bad_request"): "the request is not valid HTTP",
        (OTHER, "http_error"): "any other error of the HTTP library",
        (404, "user_unknown"): "the user is not in the replica",
        (422, "user_unknown"): "a command for an unknown user, with `unknown_users` = `reject`",
        (404, "user_deleted"): "the user is deleted",
        (422, "user_deleted"): "a command for a deleted user",
        (404, "not_a_member"): "the user does not have this segment",
        (404, "segment_unknown"): "the segment in the path does not exist",
        (422, "segment_unknown"): "a segment in the command does not exist",
        (409, "segment_exists"): "the name is in use",
        (409, "assigning"): (
            "the segment is being assigned; its rule cannot change until that is finished"
        ),
        (410, "segment_replaced"): "the segment of the cursor was deleted and created again",
        (422, "already_expired"): "the expiry of an addition is in the past",
        (422, "too_many_segments"): "the limit on segments per user or in total is reached",
        (422, "percent_shrinks"): (
            "a percentage or count can only be raised, and one cannot replace the other"
        ),
        (404, "command_unknown"): "no result of this command: not yet, no longer, or never",
        (404, "month_in_future"): "the month of the report has not begun",
        (422, "destination_unknown"): (
            "the report destination does not exist; `detail` lists those that do"
        ),
        (
            422,
            "idempotency_key_reused",
        ): "the key belongs to another command, or to a job for another report",
        (404, "job_unknown"): "this sidecar does not have the job, or no longer has it",
        (421, "partition_elsewhere"): (
            "this sidecar does not serve the partition (`http.partitions`); reports need one that "
            "serves all"
        ),
        (503, "stale"): "the view did not reach the position within the wait",
        (503, "not_ready"): "the view is being built, or has no data of the partition yet",
        (503, "history_behind"): (
            "the history store is not complete up to the requested time; `complete_until` is how "
            "far it is"
        ),
        (503, "history_unavailable"): "the history store cannot be read",
        (503, "kafka_unavailable"): (
            "Kafka did not acknowledge the record in time: it may have been accepted, so send it "
            "again with the same id"
        ),
        (503, "busy"): (
            "too many requests are waiting (`http.max_waiters`), too many reports, lists and "
            "imports are in progress (`http.max_streams`), too many jobs are queued "
            "(`reports.max_queued`), or too many connections are open (`http.max_connections`)"
        ),
        (500, "internal"): "an unexpected error; the log has the details",
        (505, "http_version"): (
            "a report or stream over HTTP/1.0, in which a truncated body would go unnoticed"
        ),
        (401, "credentials_missing"): "no API key or token was sent",
        (401, "credentials_invalid"): (
            "the API key or token is unknown, invalid, revoked or expired"
        ),
        (403, "role_needed"): (
            "the role of the client is not sufficient; `role` is the one that is needed"
        ),
        (403, "link_invalid"): "the signature of the report link is invalid",
        (403, "link_expired"): "the report link has expired",
        (429, "rate_limited"): (
            "the client sends requests (`http.rate_limit_per_s`) or invalid credentials too often"
        ),
        (503, "keys_unavailable"): "the keys that verify tokens are not available",
    }
)


def table() -> str:
    """The types as a Markdown table."""
    rows = ["| code | status | when |", "| --- | --- | --- |"]
    rows += [
        f"| `{code}` | {status or 'other'} | {when} |"
        for (status, code), when in PROBLEM_TYPES.items()
    ]
    return "\n".join(rows) + "\n"
