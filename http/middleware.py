"""Middleware: maps exceptions to problem responses and records request metrics.

Wrapped around each handler once, when the application is built: an aiohttp middleware would cost
several times as much per request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from segments.http import problems
from segments.http.auth.authorization import AUTHORIZER, Guard
from segments.http.auth.rate_limits import LIMITS
from segments.http.auth.roles import UNMATCHED
from segments.http.context import SERVICES
from segments.http.routing.routes import Routes
from segments.http.routing.streaming import NO_SNIFFING
from segments.http.server.aiohttp_internals import CatchAllResource
from segments.state.history.protocol import HistoryUnavailableError
from segments.state.rocksdb import is_damage
from segments.telemetry import logs, metrics

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
CLIENT_GONE = 499
_UNKNOWN = "unknown"
_EXPECTED_ERRORS = (problems.Problem, web.HTTPException, HistoryUnavailableError)

log = logs.get(__name__)


def add_routes(app: web.Application, routes: Routes) -> None:
    """Add the routes of a module, each wrapped in authorization, limits and metrics."""
    authorizer, limits, auth = app[AUTHORIZER], app[LIMITS], app[SERVICES].settings.auth
    app.add_routes(
        web.RouteDef(
            route.method,
            route.path,
            instrument(
                route.handler,
                route.path,
                limits.wrap(
                    authorizer.guard(
                        operation.required_role(auth), signed_link=operation.signed_link
                    ),
                    route.path,
                ),
            ),
            route.kwargs,
        )
        for operation, route in routes
    )


def add_catch_all(app: web.Application) -> None:
    """Add, after all routes, the 404 or 405 response to what none of them matches."""
    catch_all = CatchAllResource("/")
    app.router.register_resource(catch_all)
    guard = app[LIMITS].wrap(app[AUTHORIZER].guard(UNMATCHED), _UNKNOWN)
    catch_all.add_route(hdrs.METH_ANY, instrument(_not_found, _UNKNOWN, guard))


async def _not_found(request: web.Request) -> web.StreamResponse:
    """405 if the path has other methods, 404 otherwise."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if not isinstance(resource, CatchAllResource):
            _, methods = await resource.resolve(request)
            allowed |= methods
    if allowed:
        raise web.HTTPMethodNotAllowed(request.method, allowed)
    raise web.HTTPNotFound


def instrument(handler: Handler, route: str, guard: Guard | None) -> Handler:
    """Wrap a handler: errors become problem responses, and each request is counted and timed.

    `guard` runs first; it sets the request's subject or raises Problem.
    """
    timers: dict[tuple[str, int], Callable[[float], None]] = {}
    clock_s = time.perf_counter

    async def instrumented(request: web.Request) -> web.StreamResponse:
        started_s = clock_s()
        status = 500
        try:
            if guard is not None:
                await guard(request)
            response = await handler(request)
            status = response.status
        except (ConnectionError, asyncio.CancelledError):
            status = CLIENT_GONE
            raise
        except _EXPECTED_ERRORS as error:
            response = _problem(error).response()
            status = response.status
        except Exception as error:
            log.exception("request_failed", method=request.method, path=request.path)
            response = problems.Problem(500, "internal", "an unexpected error").response()
            if type(error) is Exception and is_damage(error):  # rocksdict raises bare Exceptions
                # The view is damaged: nothing read from it can be trusted any more.
                request.app[SERVICES].view_consumer.report_damage(error)
        finally:
            key = (request.method, status)
            (timers.get(key) or _timer(timers, route, *key))(clock_s() - started_s)
        if not response.prepared:
            response.headers[NO_SNIFFING[0]] = NO_SNIFFING[1]
        return response

    return instrumented


def _timer(
    timers: dict[tuple[str, int], Callable[[float], None]], route: str, method: str, status: int
) -> Callable[[float], None]:
    # Clients can invent methods; each would become a time series that never goes away.
    known = method if method in METHODS else "other"
    timer = metrics.HTTP_SECONDS.labels(known, route, str(status)).observe
    if known == method:
        timers[method, status] = timer
    return timer


def _problem(error: Exception) -> problems.Problem:
    if isinstance(error, problems.Problem):
        return error
    if isinstance(error, web.HTTPException):
        return problems.from_http(error)
    log.warning("history_unavailable", error=str(error))
    return problems.Problem(503, "history_unavailable", "the history store cannot be read")
