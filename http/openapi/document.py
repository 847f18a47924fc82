"""The OpenAPI 3.1 document, generated from the declarations of the routes.

Nothing is repeated here: operations and roles come from their declarations, bodies from the models,
descriptions of problem codes from `problem_catalogue`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any, Literal, NamedTuple

import orjson

from segments import __version__
from segments.contracts.messages import JSON_CONTENT_TYPE
from segments.contracts.responses.service import ProblemDetails
from segments.http.auth.roles import Role
from segments.http.auth.signed_links import SIGNATURE
from segments.http.openapi import schemas as openapi_schemas
from segments.http.openapi.schemas import Schemas, parameters_of_path, parameters_of_query
from segments.http.problems import PROBLEM_JSON_TYPE, Problem
from segments.http.routing import headers
from segments.http.routing.operation import (
    JsonBody,
    Operation,
    ProblemType,
    RawBody,
    Response,
)
from segments.http.routing.problem_catalogue import PROBLEM_TYPES
from segments.settings import Settings
from segments.settings.auth import AuthSettings

OPENAPI_VERSION = "3.1.1"
_INTRODUCTION = """\
Which users are in which segments, and why. Each sidecar responds from its own view; any number of
them can run.

- Reads say how fresh they are (`Segments-Position`, `Segments-Staleness-Ms`); a read with the
  position of a write in `Segments-Min-Position` includes that write.
- Unknown or repeated query parameters are rejected with 400.
- `HEAD` is supported wherever `GET` is, with the same headers. Other methods, also
  `OPTIONS`, are 405 `method_not_allowed`; `Allow` lists the supported ones.
- Paths match exactly: a path with a trailing slash is 404 `not_found`.
- With `auth`, unknown paths and methods are 404 and 405 for authenticated clients only, 401 for
  others.
- Errors are `application/problem+json` (RFC 9457); `code` identifies the error for programs.
"""
_TAGS = {
    "users": "The segments of users: read, change, explain.",
    "segments": "Definitions of segments, and their members.",
    "commands": "Batches of commands, and the results of commands.",
    "reports": "Every change of a month, as CSV.",
    "health": "Liveness, readiness and metrics.",
    "developer": "Set users of the replica by hand; only with `dev.enabled`.",
    "documentation": "This document, and a page that shows it.",
}
_REQUIRED_HEADERS: Mapping[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    429: ("Retry-After",),
}
"""Headers that a problem with this status always has."""
_OPTIONAL_HEADERS: Mapping[int, tuple[str, ...]] = {
    403: ("WWW-Authenticate",),
    404: headers.FRESH,
    503: ("Retry-After", headers.COMPLETE_UNTIL),
}


class Variant(NamedTuple):
    """The settings that the document depends on."""

    auth: Literal["none", "keys", "jwt"]
    metrics: Literal["open", "analyst", "admin"]
    server: str

    @classmethod
    def of(cls, settings: Settings) -> Variant:
        """The variant for these settings."""
        return cls(settings.auth.mode, settings.auth.metrics, settings.http.public_url or "/")


def document(operations: Iterable[Operation], variant: Variant) -> dict[str, Any]:
    """The document for these operations."""
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
        result = _operation(operation, schemas, role, variant)
        item[operation.method.lower()] = result
        problems = _problems(problem_types(operation, role), schemas)
        shared |= problems
        result["responses"] |= {
            name[:3]: {"$ref": f"#/components/responses/{name}"} for name in problems
        }
    used = {operation.tag for operation in declared}
    responses = dict(sorted(shared.items()))
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Segments",
            "version": __version__,
            "summary": "Which users are in which segments, and why.",
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
                    "description": "A signed link, as returned by `POST /v1/reports`.",
                },
            },
        },
    }


def _bodies(operations: Iterable[Operation]) -> list[Any]:
    types: list[Any] = [ProblemDetails]
    for operation in operations:
        body = operation.body
        if isinstance(body, JsonBody):
            types.append(body.model)
        elif isinstance(body, RawBody):
            types += [
                body_type for body_type in body.media.values() if not isinstance(body_type, str)
            ]
        types += [each.body for each in operation.responses.values() if each.body is not None]
    return types


def _operation(
    operation: Operation, schemas: Schemas, role: Role, variant: Variant
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "operationId": operation_id(operation),
        "tags": [operation.tag],
        # Tools do not render summaries as Markdown.
        "summary": operation.summary.replace("`", ""),
    }
    if operation.description:
        result["description"] = operation.description
    parameters = parameters_of_query(operation.query) + [
        {
            "name": name,
            "in": "header",
            # Not as `example`: the page would prefill it and send it with every request.
            "description": f"{headers.REQUEST_HEADERS[name].description} "
            f"For example `{headers.REQUEST_HEADERS[name].example}`.",
            "schema": dict(headers.REQUEST_HEADERS[name].schema),
        }
        for name in operation.headers
    ]
    if parameters:
        result["parameters"] = parameters
    if operation.body is not None:
        result["requestBody"] = {"required": True, "content": _content(operation.body, schemas)}
    result["responses"] = {
        str(status): _response(response, schemas)
        for status, response in operation.responses.items()
    }
    result["security"] = _security(operation, role, variant)
    if role is not Role.OPEN:
        result["x-required-role"] = str(role)
    return result


def operation_id(operation: Operation) -> str:
    """The name in generated clients: the tag and the name of the handler."""
    return f"{operation.tag}_{operation.name}"


def _content(body: JsonBody | RawBody, schemas: Schemas) -> dict[str, Any]:
    if isinstance(body, JsonBody):
        examples = {name: {"value": value} for name, value in body.examples.items()}
        shown = {"schema": schemas.of(body.model)}
        return {JSON_CONTENT_TYPE: shown | ({"examples": examples} if examples else {})}
    content = {}
    for media, body_type in body.media.items():
        schema = (
            openapi_schemas.text_schema(body_type)
            if isinstance(body_type, str)
            else schemas.of(body_type)
        )
        content[media] = {"schema": schema}
        if media in body.examples:
            content[media]["example"] = body.examples[media]
    return content


def _response(response: Response, schemas: Schemas) -> dict[str, Any]:
    result: dict[str, Any] = {"description": response.description}
    if response.headers or response.optional_headers:
        result["headers"] = _headers(response.headers, response.optional_headers)
    content = {}
    if response.body is not None:
        content[JSON_CONTENT_TYPE] = {"schema": schemas.of(response.body)}
    for media, body_type in response.media.items():
        content[media] = {"schema": openapi_schemas.text_schema(body_type)}
    if content:
        result["content"] = content
    return result


def _headers(always: tuple[str, ...], optional_headers: tuple[str, ...]) -> dict[str, Any]:
    return {
        name: {
            "description": headers.RESPONSE_HEADERS[name].description,
            "required": name in always,
            "schema": dict(headers.RESPONSE_HEADERS[name].schema),
            "example": headers.RESPONSE_HEADERS[name].example,
        }
        for name in (*always, *optional_headers)
    }


def problem_types(operation: Operation, role: Role) -> list[ProblemType]:
    """Every type of problem that an operation responds with, including those of authorization."""
    types = set(operation.problem_types())
    if role is not Role.OPEN:
        types |= set(openapi_schemas.AUTH_PROBLEMS)
    if operation.signed_link:
        types |= {(403, "link_invalid"), (403, "link_expired")}
    return sorted(types)


def _problems(types: list[ProblemType], schemas: Schemas) -> dict[str, Any]:
    """One response per status, named by its codes, since many operations share it."""
    result = {}
    for status, group in groupby(types, key=lambda problem_type: problem_type[0]):
        codes = [code for _, code in group]
        always = _REQUIRED_HEADERS.get(status, ())
        optional_headers = _OPTIONAL_HEADERS.get(status, ())
        response: dict[str, Any] = {
            "description": "\n".join(
                f"- `{code}`: {PROBLEM_TYPES[status, code]}" for code in codes
            ),
            "content": {
                PROBLEM_JSON_TYPE: {
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
        if always or optional_headers:
            response["headers"] = _headers(always, optional_headers)
        result["-".join((str(status), *codes))] = response
    return result


def example(status: int, code: str) -> dict[str, Any]:
    """An example body of a problem of this type."""
    result: dict[str, Any] = orjson.loads(Problem(status, code, PROBLEM_TYPES[status, code]).body())
    return result


def _security(operation: Operation, role: Role, variant: Variant) -> list[dict[str, list[str]]]:
    """The alternative security requirements of an operation."""
    if role is Role.OPEN:
        return []
    ways: list[dict[str, list[str]]] = [{"bearer": [str(role)]}]
    if operation.signed_link:
        ways.append({"link": []})
    return [*ways, {}] if variant.auth == "none" else ways
