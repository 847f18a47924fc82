"""Exceptions, grouped by how to handle them.

    SegmentsError
    ├── UnreachableError         no response: refused, reset or timed out, after all retries
    ├── AnswerError              a response that this client does not understand
    ├── IncompleteError          a list or report was interrupted before its end
    ├── SessionError             the session wrote to more partitions than a read can wait for
    ├── PendingError             accepted, but not decided in time: query `command_id` later
    └── ProblemError             a problem response (RFC 9457): `status`, `code`, `detail`, `fields`
        ├── InvalidError         the request is invalid; `fields` has the reasons
        ├── UnauthorizedError    no token, or an invalid one (401)
        ├── ForbiddenError       the token's role does not allow it (403)
        ├── NotFoundError        no such user, segment, membership, command or path (404, 410)
        ├── RejectedError        the command was rejected; nothing was changed
        │   └── ConflictError    the name is in use, or the segment is being assigned (409)
        ├── RateLimitedError     too many requests (429); `retry_after_s`
        └── UnavailableError     unavailable (5xx); `retry_after_s` if it is known
            └── StaleError       not as fresh as requested: `stale`, `not_ready`, `history_behind`

Every error of a write has the `command_id`: repeating the write with it as `idempotency_key` takes
effect only once, whatever the outcome of the first attempt was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

_STALE = frozenset({"stale", "not_ready", "history_behind"})
_INVALID = frozenset({400, 408, 411, 413, 414, 415, 422, 431})
_CONFLICTS = frozenset({"segment_exists", "assigning"})
_SHOWN_LENGTH = 300


class Field(NamedTuple):
    """An invalid field. `line`: of a request with several commands, from 1."""

    field: str
    detail: str
    line: int | None = None


class SegmentsError(Exception):
    """Base of all exceptions of calls. `command_id`: of the write, if it was one."""

    command_id: str | None = None


class UnreachableError(SegmentsError):
    """The service did not respond. A write may have been accepted nevertheless."""


class AnswerError(SegmentsError):
    """An unexpected response: from another service, or another version."""


class IncompleteError(SegmentsError):
    """A list or report was interrupted. The part received is correct, but not all."""


class SessionError(SegmentsError):
    """The session has written to more partitions than one read can wait for."""


class PendingError(SegmentsError):
    """Accepted, but not decided in time: call `client.result(command_id)` later."""

    def __init__(self, command_id: str, detail: str = "") -> None:
        super().__init__(detail or f"command {command_id} is accepted and not decided yet")
        self.command_id = command_id


class ProblemError(SegmentsError):
    """The service returned a problem. docs/http.md lists the values of `code`."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        retry_after_s: float | None = None,
        members: Mapping[str, Any] | None = None,
    ) -> None:
        members = members or {}
        self.status = status
        self.code = code
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.fields = tuple(_fields(members.get("errors")))
        self.command_id = members.get("command_id")
        self.position: str | None = members.get("position")
        """Position in the log at which a command was rejected."""
        self.segments = tuple(members.get("segments") or ())
        """The segments that caused the rejection of a command."""
        super().__init__(self._text())

    def _text(self) -> str:
        text = self.detail or self.code
        if self.segments:
            text += f": {', '.join(self.segments)}"
        reasons = [
            (f"line {each.line}, " if each.line is not None else "")
            + (f"{each.field}: {each.detail}" if each.field else each.detail)
            for each in self.fields
        ]
        return "; ".join([text, *reasons]) + f" ({self.status} {self.code})"


class InvalidError(ProblemError):
    """The request is invalid; `fields` has the reasons."""


class UnauthorizedError(ProblemError):
    """No token, or an invalid one."""


class ForbiddenError(ProblemError):
    """The role of the token does not allow this."""


class NotFoundError(ProblemError):
    """No such user, segment, membership, command, or path."""


class RejectedError(ProblemError):
    """The command was rejected; nothing was changed."""


class ConflictError(RejectedError):
    """The name is in use, or the segment is being assigned."""


class UnavailableError(ProblemError):
    """The service cannot handle the request now; retry later."""


class StaleError(UnavailableError):
    """The requested freshness was not reached in time."""


class RateLimitedError(ProblemError):
    """Too many requests with this token."""


_BY_STATUS: dict[int, type[ProblemError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: NotFoundError,
    429: RateLimitedError,
}


def problem(status: int, body: bytes, retry_after_s: float | None = None) -> ProblemError:
    """The exception for an error response, of the service or of a proxy."""
    try:
        members = orjson.loads(body)
        code = str(members.get("code", f"http_{status}"))
        detail = str(members.get("detail") or members["title"])
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        # Usually from a proxy in between, whose body is not a problem document.
        text = " ".join(body.decode(errors="replace").split())[:_SHOWN_LENGTH]
        members, code, detail = {}, f"http_{status}", text or "no explanation"
    error_class = class_of(status, code, members)
    return error_class(status, code, detail, retry_after_s=retry_after_s, members=members)


def class_of(status: int, code: str, members: Mapping[str, Any]) -> type[ProblemError]:
    """The class for a status and code."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return StaleError if code in _STALE else UnavailableError
    if members.get("command_id") is not None:
        return RejectedError
    return InvalidError if status in _INVALID else ProblemError


def rejection(result: Mapping[str, Any], *, names_segment: bool) -> ProblemError:
    """The exception for a rejected result, with the status that the service responds with.

    `names_segment`: the URL of the write names a segment.
    """
    error = result["error"] or {}
    code = str(error.get("code", "invalid"))
    status = 422
    if code in _CONFLICTS:
        status = 409
    elif code == "segment_unknown" and names_segment:
        status = 404
    members = {
        "command_id": result["command_id"],
        "position": result.get("position"),
        "segments": error.get("segments"),
    }
    detail = str(error.get("detail", ""))
    return class_of(status, code, members)(status, code, detail, members=members)


def invalid(detail: str) -> InvalidError:
    """The exception for an argument that is invalid before anything is sent."""
    return InvalidError(400, "invalid", detail)


def _fields(errors: Any) -> list[Field]:
    found = []
    for each in errors if isinstance(errors, list) else []:
        if isinstance(each, dict):
            line = each.get("line")
            number = int(line) if isinstance(line, (int, str)) and str(line).isdigit() else None
            found.append(Field(str(each.get("field", "")), str(each.get("detail", "")), number))
    return found
