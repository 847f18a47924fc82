"""What can go wrong, by what to do about it.

    SegmentsError
    ├── UnreachableError         no answer: refused, reset, timed out; retried in vain
    ├── AnswerError              an answer this client does not understand
    ├── IncompleteError          a list or report broke off before its end
    ├── SessionError             a session that wrote to more partitions than a read can wait for
    ├── PendingError             accepted, not decided within the time: ask for `command_id` later
    └── ProblemError             refused (RFC 9457): `status`, `code`, `detail`, `fields`
        ├── InvalidError         the request is wrong; `fields` name what
        ├── UnauthorizedError    no token, or none that is valid (401)
        ├── ForbiddenError       the token's role does not allow it (403)
        ├── NotFoundError        no such user, segment, membership, command or path (404, 410)
        ├── RejectedError        the command was decided, and refused; nothing was changed
        │   └── ConflictError    the name is in use, or the segment is being assigned (409)
        ├── RateLimitedError     too many requests (429); `retry_after_s`
        └── UnavailableError     not now (5xx); `retry_after_s` where it is known
            └── StaleError       not as fresh as asked for: `stale`, `not_ready`, `history_behind`

Every error of a write has the `command_id`: the write repeated with it as `idempotency_key` cannot
happen twice, whatever became of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

_STALE = frozenset({"stale", "not_ready", "history_behind"})
_WRONG = frozenset({400, 408, 411, 413, 414, 415, 422, 431})
_CONFLICTS = frozenset({"segment_exists", "assigning"})
_SHOWN_LENGTH = 300


class Field(NamedTuple):
    """A field that is wrong; `line` counts from 1 where many commands were sent."""

    field: str
    detail: str
    line: int | None = None


class SegmentsError(Exception):
    """Anything that this client raises for a call. `command_id`: of the write, if it was one."""

    command_id: str | None = None


class UnreachableError(SegmentsError):
    """The service did not respond. A write may have been accepted nevertheless."""


class AnswerError(SegmentsError):
    """An unexpected response: from another service, or another version."""


class IncompleteError(SegmentsError):
    """A list or report ended before all of it had come. What came is right, but not all."""


class SessionError(SegmentsError):
    """The session has written to more partitions than one read can wait for."""


class PendingError(SegmentsError):
    """Accepted, and not decided within the time of the call: `client.result(command_id)` later."""

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
        """Of the log, where a command was refused."""
        self.segments = tuple(members.get("segments") or ())
        """The segments on whose account a command was refused."""
        super().__init__(self._text())

    def _text(self) -> str:
        told = self.detail or self.code
        if self.segments:
            told += f": {', '.join(self.segments)}"
        wrong = [
            (f"line {each.line}, " if each.line is not None else "")
            + (f"{each.field}: {each.detail}" if each.field else each.detail)
            for each in self.fields
        ]
        return "; ".join([told, *wrong]) + f" ({self.status} {self.code})"


class InvalidError(ProblemError):
    """The request is wrong as it stands; `fields` name what."""


class UnauthorizedError(ProblemError):
    """No token, or none that is valid."""


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
    """What was asked for is not there yet in the freshness that was asked for."""


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
    """The exception of an answer that is an error, whoever wrote it."""
    try:
        told = orjson.loads(body)
        code = str(told.get("code", f"http_{status}"))
        detail = str(told.get("detail") or told["title"])
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
        # Usually from a proxy in between, whose body is not a problem document.
        text = " ".join(body.decode(errors="replace").split())[:_SHOWN_LENGTH]
        told, code, detail = {}, f"http_{status}", text or "no explanation"
    return kind(status, code, told)(status, code, detail, retry_after_s=retry_after_s, members=told)


def kind(status: int, code: str, members: Mapping[str, Any]) -> type[ProblemError]:
    """The class for a status and code."""
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status >= 500:
        return StaleError if code in _STALE else UnavailableError
    if members.get("command_id") is not None:
        return RejectedError
    return InvalidError if status in _WRONG else ProblemError


def rejection(result: Mapping[str, Any], *, addressed: bool) -> ProblemError:
    """The exception of a result that is a rejection, as the service itself would have answered.

    `addressed`: the command was about one segment, and not about a user.
    """
    error = result["error"] or {}
    code = str(error.get("code", "invalid"))
    status = 422
    if code in _CONFLICTS:
        status = 409
    elif code == "segment_unknown" and addressed:
        status = 404
    members = {
        "command_id": result["command_id"],
        "position": result.get("position"),
        "segments": error.get("segments"),
    }
    return kind(status, code, members)(status, code, str(error.get("detail", "")), members=members)


def invalid(detail: str) -> InvalidError:
    """What is known to be wrong before it is sent."""
    return InvalidError(400, "invalid", detail)


def _fields(errors: Any) -> list[Field]:
    found = []
    for each in errors if isinstance(errors, list) else []:
        if isinstance(each, dict):
            line = each.get("line")
            number = int(line) if isinstance(line, (int, str)) and str(line).isdigit() else None
            found.append(Field(str(each.get("field", "")), str(each.get("detail", "")), number))
    return found
