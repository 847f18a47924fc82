"""Errors as RFC 9457 problem details: `application/problem+json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

PROBLEM_JSON_TYPE = "application/problem+json"
_ERRORS_MAX = 20
# The names in RFC 9110; those in HTTPStatus depend on the version of Python.
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


class Problem(Exception):  # noqa: N818 - its name in RFC 9457
    """An error response.

    `code` identifies the error for programs; `errors` lists invalid fields; `extra` are additional
    members of the body.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors
        self.extra = extra
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The JSON body."""
        body: dict[str, Any] = {
            "type": f"urn:segments:problem:{self.code}",
            "title": _TITLES.get(self.status) or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors is not None:
            body["errors"] = list(self.errors)
        return orjson.dumps(body | dict(self.extra or {}))

    def response(self) -> web.Response:
        """The response."""
        return web.Response(
            status=self.status,
            body=self.body(),
            content_type=PROBLEM_JSON_TYPE,
            headers=self.headers,
        )


def invalid(error: ValidationError, prefix: str = "") -> Problem:
    """422 for JSON that does not match its model, with the invalid fields."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [
        {
            "field": prefix + ".".join(str(step)[:64] for step in problem["loc"]),
            "detail": problem["msg"].removeprefix("Value error, "),
        }
        for problem in problems[:_ERRORS_MAX]
    ]
    detail = f"{len(problems)} fields are invalid" if len(problems) > 1 else "a field is invalid"
    return Problem(422, "invalid", detail, errors=errors)


def from_http(error: web.HTTPException) -> Problem:
    """The problem for an error that aiohttp raises: unknown path, method, body too large."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(
        error.status,
        codes.get(error.status, "http_error"),
        error.reason.lower(),
        headers=headers,
    )
