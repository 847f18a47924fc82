"""The OpenAPI 3.1 document, made from what the routes say of themselves.

Nothing is listed here a second time: operations come from their declarations, bodies from the
models, the meaning of codes from `problem_catalogue`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Literal, NamedTuple

import orjson

from segments import __version__
from segments.contracts.responses.service import ProblemDetails
from segments.http.auth.roles import Role
from segments.http.auth.signed_links import SIGNATURE
from segments.http.openapi import schemas as openapi_schemas
from segments.http.openapi.schemas import Schemas, parameters_of_path, parameters_of_query
from segments.http.problems import CONTENT_TYPE, Problem
from segments.http.routing import headers
from segments.http.routing.operation import JSON, Answer, Body, Kind, Operation, RawBody
from segments.http.routing.problem_catalogue import KINDS
from segments.settings import Settings
from segments.settings.auth import AuthSettings

VERSION = "3.1.1"
_INTRODUCTION = """\
Which users are in which segments, and why. A sidecar answers from a view of its own; any number of
them can run.

- Reads say how fresh they are (`Segments-Position`, `Segments-Staleness-Ms`); with the position of
  a write in `Segments-Min-Position` a read sees that write.
- A query parameter that means nothing, or stands there twice, is an error.
- `HEAD` works where `GET` does, with the same headers. Any other method than those listed is 405
  `method_not_allowed`, `OPTIONS` as well, and `Allow` names those that there are.
- Paths are taken as they are written: one with a slash at its end is another, 404 `not_found`.
- Where `auth` asks who a client is, what no path or method takes is told to the known alone: 401 to
  others.
- Errors are `application/problem+json` (RFC 9457); `code` is the machine's word for what is wrong.
"""
_TAGS = {
    "users": "The segments of users: read, changed, explained.",
    "segments": "Definitions of segments, and who has them.",
    "commands": "Many changes at once, and what became of one.",
    "reports": "Every change of a month, as CSV.",
    "health": "For whatever watches the process.",
    "developer": "Users of the replica by hand; only with `dev.enabled`.",
    "documentation": "This document, and a page that shows it.",
}
_OF_STATUS: Mapping[int, tuple[str, ...]] = {401: ("WWW-Authenticate",), 429: ("Retry-After",)}
"""Headers that a problem of this status always has."""
_SOMETIMES: Mapping[int, tuple[str, ...]] = {
    403: ("WWW-Authenticate",),
    404: headers.FRESH,
    503: ("Retry-After", headers.COMPLETE_UNTIL),
}


class Variant(NamedTuple):
    """Of the settings, what the document depends on."""

    auth: Literal["none", "keys", "jwt"]
    metrics: Literal["open", "analyst", "admin"]
    server: str

    @classmethod
    def of(cls, settings: Settings) -> Variant:
        """The variant of this deployment."""
        return cls(settings.auth.mode, settings.auth.metrics, settings.http.public_url or "/")


def document(operations: Iterable[Operation], variant: Variant) -> dict[str, Any]:
    """The document of these operations."""
    declared = list(operations)
    schemas = Schemas(_bodies(declared))
    auth = AuthSettings.model_construct(mode=variant.auth, metrics=variant.metrics)
    paths: dict[str, dict[str, Any]] = {}
    shared: dict[str, Any] = {}
    for operation in declared:
        role = operation.required_role(auth)
        item = paths.setdefault(operation.path, {})
        if "{" in operation.path:
            item["parameters"] = parameters_of_path(operation.path)
        made = _operation(operation, schemas, role, variant)
        item[operation.method.lower()] = made
        problems = _problems(kinds(operation, role), schemas)
        shared |= problems
        made["responses"] |= {
            name[:3]: {"$ref": f"#/components/responses/{name}"} for name in problems
        }
    used = {operation.tag for operation in declared}
    responses = dict(sorted(shared.items()))
    return {
        "openapi": VERSION,
        "info": {
            "title": "Segments",
            "version": __version__,
            "summary": "Who is in which segment, and why.",
            "description": _INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": variant.server}],
        "tags": [{"name": tag, "description": _TAGS[tag]} for tag in _TAGS if tag in used],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": responses,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key or a JSON Web Token. Roles: `analyst` (reads and "
                    "reports) and `admin` (everything).",
                },
                "link": {
                    "type": "apiKey",
                    "in": "query",
                    "name": SIGNATURE,
                    "description": "A signed link, as `POST /v1/reports` gives it.",
                },
            },
        },
    }


def _bodies(operations: Iterable[Operation]) -> list[Any]:
    found: list[Any] = [ProblemDetails]
    for operation in operations:
        body = operation.body
        if isinstance(body, Body):
            found.append(body.model)
        elif isinstance(body, RawBody):
            found += [held for held in body.media.values() if not isinstance(held, str)]
        found += [each.body for each in operation.answers.values() if each.body is not None]
    return found


def _operation(
    operation: Operation, schemas: Schemas, role: Role, variant: Variant
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": operation_id(operation),
        "tags": [operation.tag],
        # Shown as it is: not as Markdown.
        "summary": operation.summary.replace("`", ""),
    }
    if operation.description:
        made["description"] = operation.description
    parameters = parameters_of_query(operation.query) + [
        {
            "name": name,
            "in": "header",
            # Not as `example`: the page would fill it in, and send it with whatever is tried.
            "description": f"{headers.REQUEST[name].meaning} "
            f"For example `{headers.REQUEST[name].example}`.",
            "schema": dict(headers.REQUEST[name].schema),
        }
        for name in operation.headers
    ]
    if parameters:
        made["parameters"] = parameters
    if operation.body is not None:
        made["requestBody"] = {"required": True, "content": _content(operation.body, schemas)}
    made["responses"] = {
        str(status): _answer(answer, schemas) for status, answer in operation.answers.items()
    }
    made["security"] = _security(operation, role, variant)
    if role is not Role.OPEN:
        made["x-required-role"] = str(role)
    return made


def operation_id(operation: Operation) -> str:
    """What generated clients call it: the handler's name, with its tag's where that is short."""
    return f"{operation.tag}_{operation.name}"


def _content(body: Body | RawBody, schemas: Schemas) -> dict[str, Any]:
    if isinstance(body, Body):
        examples = {name: {"value": value} for name, value in body.examples.items()}
        shown = {"schema": schemas.of(body.model)}
        return {JSON: shown | ({"examples": examples} if examples else {})}
    content = {}
    for media, held in body.media.items():
        schema = openapi_schemas.text(held) if isinstance(held, str) else schemas.of(held)
        content[media] = {"schema": schema}
        if media in body.examples:
            content[media]["example"] = body.examples[media]
    return content


def _answer(answer: Answer, schemas: Schemas) -> dict[str, Any]:
    made: dict[str, Any] = {"description": answer.meaning}
    if answer.headers or answer.maybe:
        made["headers"] = _headers(answer.headers, answer.maybe)
    content = {}
    if answer.body is not None:
        content[JSON] = {"schema": schemas.of(answer.body)}
    for media, held in answer.media.items():
        content[media] = {"schema": openapi_schemas.text(held)}
    if content:
        made["content"] = content
    return made


def _headers(always: tuple[str, ...], maybe: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: {
            "description": headers.ANSWER[name].meaning,
            "required": name in always,
            "schema": dict(headers.ANSWER[name].schema),
            "example": headers.ANSWER[name].example,
        }
        for name in (*always, *maybe)
    }


def kinds(operation: Operation, role: Role) -> list[Kind]:
    """Every type of problem that an operation responds with, including those of authorization."""
    found = set(operation.kinds())
    if role is not Role.OPEN:
        found |= set(openapi_schemas.ACCESS)
    if operation.signed_link:
        found |= {(403, "link_invalid"), (403, "link_expired")}
    return sorted(found)


def _problems(found: list[Kind], schemas: Schemas) -> dict[str, Any]:
    """A response a status, by a name of its own, since many operations share it."""
    made = {}
    for status, group in groupby(found, key=lambda kind: kind[0]):
        codes = [code for _, code in group]
        always = _OF_STATUS.get(status, ())
        maybe = _SOMETIMES.get(status, ())
        answer: dict[str, Any] = {
            "description": "\n".join(f"- `{code}`: {KINDS[status, code]}" for code in codes),
            "content": {
                CONTENT_TYPE: {
                    "schema": {
                        "allOf": [
                            schemas.of(ProblemDetails),
                            {
                                "properties": {
                                    "status": {"const": status},
                                    "code": {"enum": codes},
                                }
                            },
                        ]
                    },
                    "examples": {code: {"value": example(status, code)} for code in codes},
                }
            },
        }
        if always or maybe:
            answer["headers"] = _headers(always, maybe)
        made["-".join((str(status), *codes))] = answer
    return made


def example(status: int, code: str) -> dict[str, Any]:
    """The body of a problem of this kind."""
    made: dict[str, Any] = orjson.loads(Problem(status, code, KINDS[status, code]).body())
    return made


def _security(operation: Operation, role: Role, variant: Variant) -> list[dict[str, list[str]]]:
    """The alternative security requirements of an operation."""
    if role is Role.OPEN:
        return []
    ways: list[dict[str, list[str]]] = [{"bearer": [str(role)]}]
    if operation.signed_link:
        ways.append({"link": []})
    return [*ways, {}] if variant.auth == "none" else ways
