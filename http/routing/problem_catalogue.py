"""Every kind of problem that HTTP answers with, and when: for the documents, and for readers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from segments.http.routing.operation import Kind

OTHER = 0
"""In place of a status: one that is handed on from the HTTP library."""

KINDS: Mapping[Kind, str] = MappingProxyType(
    {
        (400, "invalid"): "a path, query parameter or header is wrong",
        (422, "invalid"): "a body or command is wrong",
        (400, "not_json"): "the body is not JSON",
        (400, "bad_body"): (
            "the body is not what its headers say: its chunks or its compression cannot be "
            "read, or it breaks off"
        ),
        (415, "content_type"): "the body is declared as something else",
        (415, "content_encoding"): "the body is packed; only an import may be, with gzip",
        (413, "body_too_large"): (
            "more than `http.max_body_bytes`, or `http.max_batch_bytes` for commands"
        ),
        (408, "body_timeout"): "the body did not come within 30 s",
        (408, "header_timeout"): (
            "the head did not end within `http.header_timeout_s`; the connection is closed"
        ),
        (431, "head_too_large"): "a line of the head is too long, or there are too many headers",
        (404, "not_found"): "no such path",
        (405, "method_not_allowed"): "no such method there; `Allow` names those that there are",
        (OTHER, "bad_request"): "what is sent is not HTTP",
        (OTHER, "http_error"): "what the HTTP library refuses otherwise",
        (404, "user_unknown"): "the user is not in the replica",
        (422, "user_unknown"): "a command for such a user, with `unknown_users` = `reject`",
        (404, "user_deleted"): "the user is deleted",
        (422, "user_deleted"): "a command for such a user",
        (404, "not_a_member"): "the user does not have this segment",
        (404, "segment_unknown"): "the segment of the path does not exist",
        (422, "segment_unknown"): "a segment that a command names does not exist",
        (409, "segment_exists"): "the name is in use",
        (409, "assigning"): (
            "the segment is being assigned; its rule stays as it is until that is over"
        ),
        (410, "segment_replaced"): "the segment of a cursor was deleted and made again",
        (422, "already_expired"): "the end of an addition is in the past",
        (422, "too_many_segments"): "of the user, or in all",
        (422, "percent_shrinks"): (
            "a percentage or count can only be raised, and not be exchanged for the other"
        ),
        (404, "command_unknown"): "no result of such a command: not yet, no longer, or never",
        (404, "month_in_future"): "the month of a report has not begun",
        (422, "destination_unknown"): (
            "there is no such destination of reports; `detail` names those that there are"
        ),
        (
            422,
            "idempotency_key_reused",
        ): "the key is that of another command, or of a job for another report",
        (404, "job_unknown"): "this sidecar has no such job, or no longer",
        (421, "partition_elsewhere"): (
            "this sidecar does not keep that partition (`http.partitions`); reports need "
            "one that keeps all"
        ),
        (503, "stale"): "the view has not reached the position within the wait",
        (503, "not_ready"): "the view is being filled, or has heard nothing of that partition yet",
        (503, "history_behind"): (
            "the history store is not complete up to what was asked for; `complete_until` "
            "says how far it is"
        ),
        (503, "history_unavailable"): "the history store cannot be read",
        (503, "kafka_unavailable"): (
            "Kafka did not take the record in time: it may have been accepted all the same, "
            "so send it again with the same id"
        ),
        (503, "busy"): (
            "too many requests wait (`http.max_waiters`), or too many reports, lists and "
            "imports run (`http.max_streams`), or too many jobs wait (`reports.max_queued`), or "
            "too many connections are open (`http.max_connections`)"
        ),
        (500, "internal"): "an unexpected error; the log has it",
        (505, "http_version"): (
            "a report or a stream by HTTP/1.0, with which a broken transfer could not be seen"
        ),
        (401, "credentials_missing"): "no API key or token was sent",
        (401, "credentials_invalid"): (
            "the API key or token is not known, not good, or no longer good"
        ),
        (403, "role_needed"): (
            "the role of the client is not enough; `role` names the one that is needed"
        ),
        (403, "link_invalid"): "the link of a report is not as it was given out",
        (403, "link_expired"): "the link of a report has expired",
        (429, "rate_limited"): (
            "the client asks too often (`http.rate_limit_per_s`), or has shown wrong credentials "
            "too often"
        ),
        (503, "keys_unavailable"): "the keys that verify tokens cannot be had",
    }
)


def table() -> str:
    """The kinds as a Markdown table."""
    rows = ["| code | status | when |", "| --- | --- | --- |"]
    rows += [
        f"| `{code}` | {status or 'other'} | {when} |" for (status, code), when in KINDS.items()
    ]
    return "\n".join(rows) + "\n"
