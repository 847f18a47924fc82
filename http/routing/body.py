"""Request bodies: read within limits and parsed into models."""

from __future__ import annotations

import asyncio
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from segments.contracts.messages import JSON_CONTENT_TYPE
from segments.http.problems import Problem, invalid

M = TypeVar("M", bound=BaseModel)
BODY_TIMEOUT_S = 30.0
MAX_BODY_BYTES = web.AppKey("max_body_bytes", int)
"""Maximum size of a JSON body, from the settings."""


async def read_json(request: web.Request, model: type[M]) -> tuple[M, Any]:
    """The JSON body: (validated model, parsed value). Problems as for `read` and `as_model`."""
    value = await _parse_json(request)
    return as_model(value, model), value


async def _parse_json(request: web.Request) -> Any:
    require_content_type(request, JSON_CONTENT_TYPE)
    raw = await read(request, request.app[MAX_BODY_BYTES])
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Problem(400, "not_json", f"the body is not JSON: {error}") from None


def as_model(value: Any, model: type[M]) -> M:
    """Validate a parsed body. Problem 422 with the invalid fields."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise invalid(error) from None


def require_content_type(request: web.Request, *accepted: str) -> None:
    """Problem 415 unless Content-Type is one of these."""
    if request.content_type not in accepted:
        raise Problem(415, "content_type", f"the body must be {' or '.join(accepted)}")


async def read(request: web.Request, max_bytes: int) -> bytes:
    """The whole body. Problem 413 if too large, 408 too slow, 415 encoded, 400 malformed."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "content_encoding", "the body must not be encoded")
    if request.content_length is not None and request.content_length > max_bytes:
        raise _too_large(max_bytes)
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            return await _read_chunks(request, max_bytes)
    except TimeoutError:
        detail = f"the body did not arrive within {BODY_TIMEOUT_S:g} s"
        raise Problem(408, "body_timeout", detail) from None
    except web.RequestPayloadError:
        raise Problem(400, "bad_body", "the body does not match its headers") from None


async def _read_chunks(request: web.Request, max_bytes: int) -> bytes:
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, "body_too_large", f"a body has at most {max_bytes} bytes")
