"""/livez, /readyz, /metrics."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from segments.http.requests import json_response, only
from segments.http.services import SERVICES, Services
from segments.state.history import HistoryUnavailableError
from segments.state.view import staleness_ms

routes = web.RouteTableDef()


@routes.get("/livez")
async def livez(_request: web.Request) -> web.Response:
    """The process serves requests."""
    return json_response({"status": "alive"})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """200 when answers are complete and fresh enough; 503 with what is amiss."""
    only(request, "verbose")
    services = request.app[SERVICES]
    checks = {
        "feed": _feed(services),
        "view": _view(services),
        "history": await _history(services),
    }
    ready = all(fault is None for fault in checks.values())
    body: dict[str, object] = {"status": "ready" if ready else "not_ready"}
    if not ready or "verbose" in request.query:
        body["checks"] = {name: fault or "ok" for name, fault in checks.items()}
    if "verbose" in request.query:
        body["partitions"] = {
            str(partition): {
                "position": f"{partition}:{marker.log_offset}",
                "staleness_ms": staleness_ms(marker),
            }
            for partition, marker in sorted(services.view.progress.items())
        }
    return json_response(body, status=200 if ready else 503)


def _feed(services: Services) -> str | None:
    if not services.feed.alive:
        return "the consumer has ended"
    return None if services.feed.caught_up else "the topics have not been read to their ends yet"


def _view(services: Services) -> str | None:
    if not services.view.complete:
        return "the view is being filled"
    http = services.settings.http
    wanted = range(services.settings.partitions) if http.partitions is None else http.partitions
    progress = services.view.progress
    if missing := [number for number in wanted if number not in progress]:
        return f"nothing heard from partitions {missing}"
    worst, partition = max((staleness_ms(progress[number]), number) for number in wanted)
    if worst > http.ready_lag_ms:
        return f"partition {partition} is {worst} ms old, more than {http.ready_lag_ms} ms"
    return None


async def _history(services: Services) -> str | None:
    try:
        await services.history.progress()
    except HistoryUnavailableError as error:
        return str(error)
    return None


@routes.get("/metrics")
async def metrics(_request: web.Request) -> web.Response:
    """The catalogue in the text format of Prometheus."""
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
