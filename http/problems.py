"""Errors as RFC 9457 problem details: `application/problem+json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from aiohttp import web
from pydantic import ValidationError

CONTENT_TYPE = "application/problem+json"
_FIELDS_NAMED = 20
# As RFC 9110 calls them: what Python calls them depends on its version.
_TITLES = {413: "Content Too Large", 422: "Unprocessable Content"}


class Problem(Exception):  # noqa: N818 - its name in RFC 9457
    """An answer that is an error.

    `code` is the machine's word for it; `errors` names fields; `extra` are further members.
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
        """The answer's body."""
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
        """The answer."""
        return web.Response(
            status=self.status,
            body=self.body(),
            content_type=CONTENT_TYPE,
            headers=self.headers,
        )


def invalid(error: ValidationError, prefix: str = "") -> Problem:
    """422 for a body that can be read but breaks its contract, naming the fields."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    errors = [
        {
            "field": prefix + ".".join(str(step)[:64] for step in problem["loc"]),
            "detail": problem["msg"].removeprefix("Value error, "),
        }
        for problem in problems[:_FIELDS_NAMED]
    ]
    detail = f"{len(problems)} fields are wrong" if len(problems) > 1 else "a field is wrong"
    return Problem(422, "invalid", detail, errors=errors)


def from_http(error: web.HTTPException) -> Problem:
    """What aiohttp itself refuses: unknown paths, methods, sizes."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
    headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return Problem(
        error.status,
        codes.get(error.status, "http_error"),
        error.reason.lower(),
        headers=headers,
    )
