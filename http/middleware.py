"""What surrounds every handler: errors become problems, each request is counted and timed.

Wrapped around each route once, when the application is put together: as aiohttp's middleware it
would cost a request several times as much.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from segments.http import problems
from segments.http.auth.authorization import ADMISSION, Guard
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
_FORESEEN = (problems.Problem, web.HTTPException, HistoryUnavailableError)

log = logs.get(__name__)


def add_routes(app: web.Application, routes: Routes) -> None:
    """Add the routes of a module, each wrapped in authorization, limits and metrics."""
    admission, limits, auth = app[ADMISSION], app[LIMITS], app[SERVICES].settings.auth
    app.add_routes(
        web.RouteDef(
            route.method,
            route.path,
            answered(
                route.handler,
                route.path,
                limits.around(
                    admission.guard(
                        operation.required_role(auth), signed_link=operation.signed_link
                    ),
                    route.path,
                ),
            ),
            route.kwargs,
        )
        for operation, route in routes
    )


def refuse_the_rest(app: web.Application) -> None:
    """Add, after all routes, the answer to what none of them takes."""
    rest = CatchAllResource("/")
    app.router.register_resource(rest)
    guard = app[LIMITS].around(app[ADMISSION].guard(UNMATCHED), _UNKNOWN)
    rest.add_route(hdrs.METH_ANY, answered(_refuse, _UNKNOWN, guard))


async def _refuse(request: web.Request) -> web.StreamResponse:
    """405 where the path is known, 404 where it is not."""
    allowed: set[str] = set()
    for resource in request.app.router.resources():
        if not isinstance(resource, CatchAllResource):
            _, methods = await resource.resolve(request)
            allowed |= methods
    if allowed:
        raise web.HTTPMethodNotAllowed(request.method, allowed)
    raise web.HTTPNotFound


def answered(handler: Handler, route: str, guard: Guard | None) -> Handler:
    """The handler with every error as a problem and every request in the metrics.

    `guard` says, before it, who the request comes from, and may refuse it.
    """
    timers: dict[tuple[str, int], Callable[[float], None]] = {}
    clock_s = time.perf_counter

    async def answer(request: web.Request) -> web.StreamResponse:
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
        except _FORESEEN as error:
            response = _problem(error).response()
            status = response.status
        except Exception as error:
            log.exception("request_failed", method=request.method, path=request.path)
            response = problems.Problem(500, "internal", "an unexpected error").response()
            if type(error) is Exception and is_damage(error):  # rocksdict raises bare Exceptions
                # Of the view: nothing that it says can be trusted from here on.
                request.app[SERVICES].feed.give_up(error)
        finally:
            key = (request.method, status)
            (timers.get(key) or _timer(timers, route, *key))(clock_s() - started_s)
        if not response.prepared:
            response.headers[NO_SNIFFING[0]] = NO_SNIFFING[1]
        return response

    return answer


def _timer(
    timers: dict[tuple[str, int], Callable[[float], None]], route: str, method: str, status: int
) -> Callable[[float], None]:
    # A client can make methods up; each would be a time series for ever.
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
    detail = "the history store cannot be read"
    log.warning(detail, error=str(error))
    return problems.Problem(503, "history_unavailable", detail)
