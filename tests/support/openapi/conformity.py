"""Checks responses against the declaration of their operation.

The HTTP clients of the tests call this for every response.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from typing import Any

import httpx
from pydantic import TypeAdapter

from segments.contracts.responses.service import ProblemDetails
from segments.http import app
from segments.http.openapi import document as openapi
from segments.http.routing.operation import Operation, Response
from segments.settings import AuthSettings, Settings

PROBLEM = "application/problem+json"
OUTSIDE = frozenset(
    {
        "not_found",
        "method_not_allowed",
        "bad_request",
        "http_error",
        "header_timeout",
        "head_too_large",
    }
)
"""Problem codes of requests that do not reach the handler of an operation."""


@lru_cache(maxsize=1)
def operations() -> list[tuple[str, re.Pattern[str], Operation]]:
    """(method, path pattern, operation); more specific paths first."""
    declared = app.operations(Settings(dev={"enabled": True}))
    ordered = sorted(declared, key=lambda operation: operation.path.count("{"))
    return [
        (operation.method, re.compile(_pattern(operation.path)), operation) for operation in ordered
    ]


def _pattern(path: str) -> str:
    parts = re.split(r"\{\w+\}", path)
    return "[^/]+".join(map(re.escape, parts))


def operation_of(method: str, path: str) -> Operation | None:
    """The operation of a request; None if there is none."""
    get_method = "GET" if method == "HEAD" else method
    for declared, pattern, operation in operations():
        if declared == get_method and pattern.fullmatch(path):
            return operation
    return None


@cache
def _adapter(answer: Response) -> TypeAdapter[Any]:
    return TypeAdapter(answer.body)


@cache
def _problem_types(operation: Operation) -> frozenset[tuple[int, str]]:
    # Some test sidecars require a role for their metrics, unlike the default.
    auth = AuthSettings(metrics="admin")
    return frozenset(openapi.problem_types(operation, operation.required_role(auth)))


def check(method: str, url: httpx.URL, status: int, headers: httpx.Headers, body: bytes) -> None:
    """AssertionError for a response that its operation does not declare."""
    operation = operation_of(method, url.raw_path.decode().partition("?")[0])
    if operation is None:
        return
    where = f"{method} {url} -> {status}: {body[:500]!r}"
    media = headers.get("content-type", "").partition(";")[0]
    if media == PROBLEM:
        _check_problem(operation, method, body, where)
        return
    answer = operation.responses.get(status)
    assert answer is not None, f"undeclared status: {where}"
    missing = [name for name in answer.headers if name not in headers]
    assert not missing, f"missing {missing}: {where}"
    if answer.body is not None and media == "application/json":
        if method != "HEAD":
            _adapter(answer).validate_json(body)
    elif status != 304:
        assert media in answer.media, f"undeclared media type {media!r}: {where}"


def _check_problem(operation: Operation, method: str, body: bytes, where: str) -> None:
    if method == "HEAD":
        return
    problem = ProblemDetails.model_validate_json(body)
    problem_type = (problem.status, problem.code)
    if problem.code not in OUTSIDE:
        assert problem_type in _problem_types(operation), (
            f"undeclared problem {problem_type}: {where}"
        )


def is_complete(response: httpx.Response) -> bool:
    """Whether the body is not streamed; tests check the streams that they read."""
    return "content-length" in response.headers


def check_response(response: httpx.Response) -> None:
    """Event hook of a client."""
    if is_complete(response):
        body = response.read()
        check_read(response, body)


async def check_response_async(response: httpx.Response) -> None:
    """Event hook of an asynchronous client."""
    if is_complete(response):
        body = await response.aread()
        check_read(response, body)


def check_read(response: httpx.Response, body: bytes) -> None:
    """Check a response whose body has been read."""
    request = response.request
    check(request.method, request.url, response.status_code, response.headers, body)
