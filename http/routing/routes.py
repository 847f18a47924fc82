"""How a module of `http/routes/` declares routes: one declaration serves, authorizes, documents."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Required, TypedDict, TypeVar, Unpack

from aiohttp import hdrs, web

from segments.http.auth.roles import Role
from segments.http.routing.body import read_json, require_content_type
from segments.http.routing.operation import (
    JsonBody,
    Operation,
    ParsedBody,
    ProblemType,
    RawBody,
    Response,
)
from segments.http.routing.query import Query
from segments.settings.auth import AuthSettings

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[web.StreamResponse]])


class Declaration(TypedDict, total=False):
    """The fields of `Operation` that a route declares."""

    role: Required[Role | Callable[[AuthSettings], Role]]
    responses: Required[Mapping[int, Response]]
    query: type[Query] | None
    body: JsonBody | RawBody | None
    headers: tuple[str, ...]
    problems: tuple[ProblemType, ...]
    signed_link: bool


class Routes:
    """Collects routes declared with `@routes.get(path, role=…, responses=…, …)` and its siblings.

    A handler takes the request, then its query model (if it has parameters), then its body (if it
    is JSON). A declaration without a role or responses raises TypeError.
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self._routes: list[tuple[Operation, web.RouteDef]] = []

    def __iter__(self) -> Iterator[tuple[Operation, web.RouteDef]]:
        return iter(self._routes)

    @property
    def operations(self) -> list[Operation]:
        """The declarations, in order."""
        return [operation for operation, _ in self._routes]

    def get(self, path: str, **fields: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a GET; it also serves HEAD."""
        return self._declare(hdrs.METH_GET, path, fields)

    def post(self, path: str, **fields: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a POST."""
        return self._declare(hdrs.METH_POST, path, fields)

    def put(self, path: str, **fields: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a PUT."""
        return self._declare(hdrs.METH_PUT, path, fields)

    def patch(self, path: str, **fields: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a PATCH."""
        return self._declare(hdrs.METH_PATCH, path, fields)

    def delete(self, path: str, **fields: Unpack[Declaration]) -> Callable[[Handler], Handler]:
        """Declare a DELETE."""
        return self._declare(hdrs.METH_DELETE, path, fields)

    def _declare(self, method: str, path: str, fields: Declaration) -> Callable[[Handler], Handler]:
        def decorate(handler: Handler) -> Handler:
            summary, _, description = (inspect.getdoc(handler) or "").partition("\n\n")
            operation = Operation(
                method=method,
                path=path,
                name=getattr(handler, "__name__", ""),
                tag=self.tag,
                summary=" ".join(summary.split()),
                description=description,
                **fields,
            )
            serve = getattr(web, method.lower())
            self._routes.append((operation, serve(path, _parse_request(operation, handler))))
            return handler

        return decorate


def _parse_request(
    operation: Operation, handler: Callable[..., Awaitable[web.StreamResponse]]
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """Wrap the handler to parse what is declared. Without a query string it costs one call."""
    query, body = operation.query, operation.body
    if query is None:
        call: Callable[..., Awaitable[web.StreamResponse]] = handler
    elif query.model_fields:
        call = _with_parameters(query, handler)
    else:
        call = _without_parameters(query, handler)
    if body is None:
        return call

    async def with_body(request: web.Request) -> web.StreamResponse:
        if isinstance(body, RawBody):
            require_content_type(request, *body.accepted())
            return await call(request)
        return await call(request, ParsedBody(*await read_json(request, body.model)))

    return with_body


def _with_parameters(
    query: type[Query], handler: Callable[..., Awaitable[web.StreamResponse]]
) -> Callable[..., Awaitable[web.StreamResponse]]:
    defaults = query()

    def call(request: web.Request, *body: object) -> Awaitable[web.StreamResponse]:
        return handler(request, query.parse(request) if request.query_string else defaults, *body)

    return call


def _without_parameters(
    query: type[Query], handler: Callable[..., Awaitable[web.StreamResponse]]
) -> Callable[..., Awaitable[web.StreamResponse]]:
    def call(request: web.Request, *body: object) -> Awaitable[web.StreamResponse]:
        if request.query_string:
            query.parse(request)
        return handler(request, *body)

    return call
