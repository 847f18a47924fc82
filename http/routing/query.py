"""Query parameters as models, which both parse and document them.

Unknown or repeated query parameters are rejected with 400.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Annotated, Any, Self

import orjson
from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from segments.contracts.times import from_rfc3339
from segments.http.problems import Problem

PAGE_DEFAULT = 100
PAGE_MAX = 1_000
_INT64 = 2**63
_INVALID_CURSOR = "not a cursor of this list"


class Query(BaseModel):
    """Base of query models; itself without parameters. A field's alias is the parameter's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def parse(cls, request: web.Request) -> Self:
        """The query parameters of a request. Problem 400 `invalid` with the invalid one."""
        parameters = request.query
        names = {field.alias or name for name, field in cls.model_fields.items()}
        for name in parameters:
            if name not in names:
                raise unknown_parameter(name)
            if len(parameters.getall(name)) > 1:
                raise Problem(400, "invalid", f"{name} is present more than once")
        try:
            return cls.model_validate(dict(parameters))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            reason = first["msg"].removeprefix("Value error, ")
            name = str(first["loc"][0]) if first["loc"] else "the query"
            raise Problem(400, "invalid", f"{name}: {reason}") from None


def unknown_parameter(name: str) -> Problem:
    """400 for a parameter that the operation does not have."""
    return Problem(400, "invalid", f"no such parameter: {name[:64]!r}")


def _limit(value: Any) -> Any:
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise ValueError(f"a number from 1 to {PAGE_MAX}")
        return int(value)
    return value


def _instant(text: str) -> int:
    # An unescaped `+` arrives as a space.
    return from_rfc3339(text.replace(" ", "+"))


Limit = Annotated[
    int,
    Field(ge=1, le=PAGE_MAX, description="maximum number of items on the page"),
    BeforeValidator(_limit),
]
QueryInstant = Annotated[
    int, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""RFC 3339 in the query, milliseconds in the model."""


def encode_cursor(place: list[Any]) -> str:
    """An opaque cursor for a place in a list."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def invalid_cursor() -> Problem:
    """400 for a cursor that the list did not return."""
    return Problem(400, "invalid", f"cursor: {_INVALID_CURSOR}")


def cursor_decoder(*types: type) -> Callable[[str], list[Any]]:
    """A decoder of cursors whose parts have these types; it raises ValueError for others."""

    def decode(text: str) -> list[Any]:
        try:
            padded = text.encode("ascii") + b"=" * (-len(text) % 4)
            place = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
        except ValueError:
            place = None
        if (
            not isinstance(place, list)
            or [type(part) for part in place] != list(types)
            or any(isinstance(part, int) and not -_INT64 <= part < _INT64 for part in place)
        ):
            raise ValueError(_INVALID_CURSOR)
        return place

    return decode


CURSOR_SCHEMA = WithJsonSchema(
    {
        "type": "string",
        "format": "cursor",
        "description": "`next` of the previous page; opaque, and only valid for this list",
    }
)
"""The schema of a cursor in the OpenAPI document."""


class PageQuery(Query):
    """A page of a list. Subclasses add `cursor` with the types of its parts."""

    limit: Limit = PAGE_DEFAULT
