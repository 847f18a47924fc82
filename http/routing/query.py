"""Query parameters as models: what they parse with is what documents them.

A parameter that means nothing, or stands there twice, is an error.
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


class Query(BaseModel):
    """No parameters; the base of those with some. A field's alias is the parameter's name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of(cls, request: web.Request) -> Self:
        """The parameters of a request. Problem 400 `invalid` naming the one that is wrong."""
        given = request.query
        names = {field.alias or name for name, field in cls.model_fields.items()}
        for name in given:
            if name not in names:
                raise unknown(name)
            if len(given.getall(name)) > 1:
                raise Problem(400, "invalid", f"{name} is given more than once")
        try:
            return cls.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            said = first["msg"].removeprefix("Value error, ")
            name = str(first["loc"][0]) if first["loc"] else "the query"
            raise Problem(400, "invalid", f"{name}: {said}") from None


def unknown(name: str) -> Problem:
    """A parameter that means nothing here."""
    return Problem(400, "invalid", f"no such parameter: {name[:64]!r}")


def _limit(value: Any) -> Any:
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) <= 9):
            raise ValueError(f"a number from 1 to {PAGE_MAX}")
        return int(value)
    return value


def _instant(text: str) -> int:
    # A `+` that was not escaped arrives as a space.
    return from_rfc3339(text.replace(" ", "+"))


Limit = Annotated[
    int,
    Field(ge=1, le=PAGE_MAX, description="the most items that a page has"),
    BeforeValidator(_limit),
]
Instant = Annotated[
    int, BeforeValidator(_instant), WithJsonSchema({"type": "string", "format": "date-time"})
]
"""RFC 3339 in the query, milliseconds in the model."""


def encode_cursor(place: list[Any]) -> str:
    """An opaque cursor for a place in a list."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def foreign_cursor() -> Problem:
    """A cursor that the list did not give out."""
    return Problem(400, "invalid", "cursor: none that this list gave out")


def place_of(*types: type) -> Callable[[str], list[Any]]:
    """What reads a cursor: the place in the list, which has these types; ValueError otherwise."""

    def read(text: str) -> list[Any]:
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
            raise ValueError("none that this list gave out")
        return place

    return read


OPAQUE = WithJsonSchema(
    {
        "type": "string",
        "format": "cursor",
        "description": "`next` of the page before; only what this list gave out is understood",
    }
)
"""What the document says of a cursor."""


class Page(Query):
    """Which page of a list. The list says what its cursor is: `cursor`."""

    limit: Limit = PAGE_DEFAULT
