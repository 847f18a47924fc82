"""/livez, /readyz, /metrics."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import Field

from segments.contracts.positions import format_position
from segments.contracts.responses.service import Alive, Readiness
from segments.http import gauges
from segments.http.auth.roles import Role
from segments.http.context import SERVICES, Services
from segments.http.routes.requests import json_response
from segments.http.routing.operation import Response
from segments.http.routing.query import Query
from segments.http.routing.routes import Routes
from segments.settings.auth import AuthSettings
from segments.state.history.protocol import HistoryUnavailableError
from segments.state.view.view import staleness_ms

routes = Routes("health")


def metrics_role(auth: AuthSettings) -> Role:
    """The role for /metrics: `auth.metrics`."""
    return Role(auth.metrics)


class ReadinessQuery(Query):
    """How detailed the response is."""

    verbose: Annotated[
        str | None,
        Field(description="if present, include every check and partition"),
    ] = None


@routes.get(
    "/livez",
    role=Role.OPEN,
    query=None,
    responses={200: Response("The process serves requests.", Alive)},
)
async def livez(_request: web.Request) -> web.Response:
    """The process serves requests."""
    return json_response({"status": "alive"})


@routes.get(
    "/readyz",
    role=Role.OPEN,
    query=ReadinessQuery,
    responses={
        200: Response("Reads are complete and fresh enough.", Readiness),
        503: Response("They are not; `checks` says why.", Readiness),
    },
)
async def readyz(request: web.Request, query: ReadinessQuery) -> web.Response:
    """200 if reads are complete and fresh enough; 503 with the failed checks if not."""
    services = request.app[SERVICES]
    checks = await _checks(services)
    ready = all(failure is None for failure in checks.values())
    body: dict[str, object] = {"status": "ready" if ready else "not_ready"}
    verbose = query.verbose is not None
    if not ready or verbose:
        body["checks"] = {name: failure or "ok" for name, failure in checks.items()}
    if verbose:
        body["partitions"] = {
            str(partition): {
                "position": format_position(partition, marker.log_offset),
                "staleness_ms": staleness_ms(marker),
            }
            for partition, marker in sorted(services.view.progress.items())
        }
    return json_response(body, status=200 if ready else 503)


async def _checks(services: Services) -> dict[str, str | None]:
    """Check -> failure; None if it passed."""
    return {
        "feed": _consumption(services),
        "view": _view(services),
        "history": await _history(services),
    }


def _consumption(services: Services) -> str | None:
    if not services.view_consumer.alive:
        return "the consumer has stopped"
    return (
        None
        if services.view_consumer.caught_up
        else "the topics have not been read to their ends yet"
    )


def _view(services: Services) -> str | None:
    if not services.view.complete:
        return "the view is being built"
    http = services.settings.http
    served = services.served_partitions()
    progress = services.view.progress
    if missing := [number for number in sorted(served) if number not in progress]:
        return f"no data from partitions {missing}"
    worst, partition = max((staleness_ms(progress[number]), number) for number in served)
    if worst > http.ready_lag_ms:
        return f"partition {partition} is {worst} ms old, more than {http.ready_lag_ms} ms"
    return None


async def _history(services: Services) -> str | None:
    try:
        await services.history.progress()
    except HistoryUnavailableError as error:
        return str(error)
    return None


@routes.get(
    "/metrics",
    role=metrics_role,
    query=None,
    responses={200: Response("The metrics.", media={"text/plain": "One sample per line."})},
)
async def metrics(request: web.Request) -> web.Response:
    """All metrics in the Prometheus text format."""
    services = request.app[SERVICES]
    failures = (await _checks(services)).values()
    body = await gauges.render_metrics(services, ready=not any(failures))
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})
