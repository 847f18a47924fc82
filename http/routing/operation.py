"""Declarations of operations: what serves, authorizes and documents a route."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel

from segments.http.auth.roles import Role
from segments.http.routing.query import Query
from segments.settings.auth import AuthSettings

M = TypeVar("M", bound=BaseModel)
NDJSON_TYPE = "application/x-ndjson"
CSV_TYPE = "text/csv"
NDJSON_TYPES = (NDJSON_TYPE, "application/ndjson", "application/jsonl")
"""Media types that clients use for NDJSON: all are accepted, the first is sent."""

ProblemType = tuple[int, str]
"""A type of problem: (status, code); `problem_catalogue` says when it occurs."""


class ParsedBody(NamedTuple, Generic[M]):
    """A valid JSON body: as a model, and as parsed."""

    model: M
    raw: dict[str, Any]


@dataclass(frozen=True)
class JsonBody:
    """A JSON body, read and validated before the handler, which gets a `ParsedBody`."""

    model: type[BaseModel]
    examples: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RawBody:
    """A body that the handler reads itself; only its media type is checked before.

    `media`: for each media type the model or union of the body, or a description of the text.
    """

    media: Mapping[str, Any]
    aliases: tuple[str, ...] = ()
    """Other names of a media type: accepted, not documented."""
    examples: Mapping[str, Any] = field(default_factory=dict)
    """An example per media type."""

    def accepted(self) -> tuple[str, ...]:
        """Every accepted media type."""
        return (*self.media, *(name for name in self.aliases if name not in self.media))


@dataclass(frozen=True, eq=False)
class Response:
    """A response: description, JSON body (a model or union), other media types, headers.

    `headers` are always present, `optional_headers` sometimes. `media`: media type -> description.
    """

    description: str
    body: Any = None
    media: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    optional_headers: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Operation:
    """One method of one path. Summary and description are the handler's docstring.

    `role`: the role a client needs; a function where the settings decide. `signed_link`: a signed
    link opens it too, without credentials. `query`: its parameters; None if any are ignored.
    """

    method: str
    path: str
    name: str
    tag: str
    summary: str
    description: str
    role: Role | Callable[[AuthSettings], Role]
    responses: Mapping[int, Response]
    query: type[Query] | None = Query
    body: JsonBody | RawBody | None = None
    headers: tuple[str, ...] = ()
    problems: tuple[ProblemType, ...] = ()
    signed_link: bool = False

    def required_role(self, auth: AuthSettings) -> Role:
        """The role that a client needs under these settings."""
        return self.role if isinstance(self.role, Role) else self.role(auth)

    def problem_types(self) -> tuple[ProblemType, ...]:
        """Every type of problem it responds with, also those implied by parameters and body."""
        found = {(500, "internal"), *self.problems}
        if self.query is not None or self.headers or "{" in self.path:
            found.add((400, "invalid"))
        if self.body is not None:
            found |= {(400, "bad_body"), (415, "content_type"), (415, "content_encoding")}
        if isinstance(self.body, JsonBody):
            found |= {(400, "not_json"), (413, "body_too_large"), (408, "body_timeout")}
            found.add((422, "invalid"))
        return tuple(sorted(found))


# Types of problems that occur together.
USER_PROBLEMS: tuple[ProblemType, ...] = ((404, "user_unknown"), (404, "user_deleted"))
PARTITION_PROBLEMS: tuple[ProblemType, ...] = ((421, "partition_elsewhere"),)
NOT_READY_PROBLEMS: tuple[ProblemType, ...] = ((503, "not_ready"),)
FRESHNESS_PROBLEMS: tuple[ProblemType, ...] = ((503, "not_ready"), (503, "stale"), (503, "busy"))
"""For reads that wait for a position."""
HISTORY_PROBLEMS: tuple[ProblemType, ...] = ((503, "history_behind"), (503, "history_unavailable"))
WRITE_PROBLEMS: tuple[ProblemType, ...] = ((503, "kafka_unavailable"), (503, "busy"))
COMMAND_PROBLEMS: tuple[ProblemType, ...] = ((422, "idempotency_key_reused"), *WRITE_PROBLEMS)
"""For writes that wait for the result of their command."""
STREAM_PROBLEMS: tuple[ProblemType, ...] = ((503, "busy"), (505, "http_version"))
SEGMENT_REJECTIONS: tuple[ProblemType, ...] = (
    (409, "segment_exists"),
    (409, "assigning"),
    (422, "invalid"),
    (422, "percent_shrinks"),
    (422, "too_many_segments"),
)
"""For any write to a segment: a repeated key returns the result of the first command."""
CHANGE_REJECTIONS: tuple[ProblemType, ...] = (
    (422, "segment_unknown"),
    (422, "user_unknown"),
    (422, "user_deleted"),
    (422, "already_expired"),
    (422, "too_many_segments"),
)
