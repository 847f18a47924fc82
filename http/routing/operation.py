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
JSON = "application/json"
NDJSON = "application/x-ndjson"
CSV = "text/csv"
NDJSON_NAMES = (NDJSON, "application/ndjson", "application/jsonl")
"""What clients call it: all are taken, the first is sent."""

Kind = tuple[int, str]
"""A kind of problem: its status and code; `problem_catalogue` says when it comes."""


class Received(NamedTuple, Generic[M]):
    """A JSON body that keeps its contract: as the model, and as it came."""

    model: M
    raw: dict[str, Any]


@dataclass(frozen=True)
class Body:
    """A JSON body. It is read and checked before the handler, which is given a `Received`."""

    model: type[BaseModel]
    examples: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RawBody:
    """A body that the handler reads itself, once its media type is one of these.

    `media`: what the body holds in each of them, a model or union, or text in words.
    """

    media: Mapping[str, Any]
    aliases: tuple[str, ...] = ()
    """Further names of a media type: taken, not documented."""
    examples: Mapping[str, Any] = field(default_factory=dict)
    """An example in each media type."""

    def accepted(self) -> tuple[str, ...]:
        """Every media type that is taken."""
        return (*self.media, *(name for name in self.aliases if name not in self.media))


@dataclass(frozen=True, eq=False)
class Answer:
    """An answer: what it means, its JSON body (a model or union), other media types, headers.

    `headers` are always there, `maybe` only sometimes. `media` says in words what text holds.
    """

    meaning: str
    body: Any = None
    media: Mapping[str, str] = field(default_factory=dict)
    headers: tuple[str, ...] = ()
    maybe: tuple[str, ...] = ()


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
    answers: Mapping[int, Answer]
    query: type[Query] | None = Query
    body: Body | RawBody | None = None
    headers: tuple[str, ...] = ()
    problems: tuple[Kind, ...] = ()
    signed_link: bool = False

    def required_role(self, auth: AuthSettings) -> Role:
        """The role that a client needs under these settings."""
        return self.role if isinstance(self.role, Role) else self.role(auth)

    def kinds(self) -> tuple[Kind, ...]:
        """Every kind of problem that it can answer, those that follow from its form as well."""
        found = {(500, "internal"), *self.problems}
        if self.query is not None or self.headers or "{" in self.path:
            found.add((400, "invalid"))
        if self.body is not None:
            found |= {(400, "bad_body"), (415, "content_type"), (415, "content_encoding")}
        if isinstance(self.body, Body):
            found |= {(400, "not_json"), (413, "body_too_large"), (408, "body_timeout")}
            found.add((422, "invalid"))
        return tuple(sorted(found))


# Kinds of problems that come together.
USER_MISSING: tuple[Kind, ...] = ((404, "user_unknown"), (404, "user_deleted"))
ELSEWHERE: tuple[Kind, ...] = ((421, "partition_elsewhere"),)
NOT_READY: tuple[Kind, ...] = ((503, "not_ready"),)
FRESHNESS: tuple[Kind, ...] = ((503, "not_ready"), (503, "stale"), (503, "busy"))
"""Of reads that wait for a position."""
HISTORY: tuple[Kind, ...] = ((503, "history_behind"), (503, "history_unavailable"))
WRITES: tuple[Kind, ...] = ((503, "kafka_unavailable"), (503, "busy"))
COMMANDS: tuple[Kind, ...] = ((422, "idempotency_key_reused"), *WRITES)
"""Of writes that wait for the result of their command."""
STREAMS: tuple[Kind, ...] = ((503, "busy"), (505, "http_version"))
REJECTED_SEGMENT: tuple[Kind, ...] = (
    (409, "segment_exists"),
    (409, "assigning"),
    (422, "invalid"),
    (422, "percent_shrinks"),
    (422, "too_many_segments"),
)
"""Of any write to a segment: a key that is used again gives the outcome of the first command."""
REJECTED_CHANGE: tuple[Kind, ...] = (
    (422, "segment_unknown"),
    (422, "user_unknown"),
    (422, "user_deleted"),
    (422, "already_expired"),
    (422, "too_many_segments"),
)
