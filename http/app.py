"""The HTTP sidecar: its parts put together, its routes, its life from start to end."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from segments import logs, metrics
from segments.http import (
    commands,
    developer,
    health,
    imports,
    members,
    memberships,
    past,
    problems,
    reports,
    segments,
    users,
)
from segments.http.completeness import Completeness
from segments.http.feed import TOPICS, Feed
from segments.http.server import serving
from segments.http.services import SERVICES, Services
from segments.http.waiting import Waiting
from segments.http.writing import CommandWriter
from segments.settings import Settings
from segments.state.database import is_damage
from segments.state.history import HistoryUnavailableError, open_reader
from segments.state.view import View
from segments.streams import quix

NAME = "http"
ROUTES = (users, past, memberships, segments, members, commands, reports, health)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The thread that fills the view must not keep the event loop waiting for the interpreter.
SWITCH_INTERVAL_S = 0.0005

log = logs.get(__name__)


def view_folder(settings: Settings) -> Path:
    """Where this instance keeps its view."""
    return settings.data_dir / f"http-{settings.instance}" / "view"


@asynccontextmanager
async def services(settings: Settings) -> AsyncIterator[Services]:
    """Everything the handlers work with, started; ended in reverse."""
    # The view is filled from these topics and no others: made anew, they begin a new view.
    identity = {
        "topics": quix.topic_ids(settings, TOPICS),
        "partitions": settings.http.partitions,
    }
    view = View(view_folder(settings), identity)
    history = open_reader(settings)
    waiting = Waiting(view, settings.http.max_waiters)
    completeness = Completeness(view, history)

    writer = CommandWriter(settings, waiting)

    def report(advanced: list[int], results: Mapping[str, bytes]) -> None:
        completeness.note(advanced)
        writer.heard(results)
        waiting.report(advanced, results)

    feed = Feed(settings, view, report)
    pool = ThreadPoolExecutor(settings.http.read_threads, thread_name_prefix="read")
    # Read once, from some hundred files: not while a request waits.
    await asyncio.to_thread(reports.zone_names)
    feed.start()
    try:
        yield Services(settings, view, waiting, feed, writer, history, completeness, pool)
    finally:
        await asyncio.to_thread(feed.close)
        await asyncio.to_thread(writer.close)
        pool.shutdown(wait=True, cancel_futures=True)
        await history.close()
        view.close()


def build(made: Services) -> web.Application:
    """The application over these services."""
    app = web.Application(middlewares=[_answered])
    app[SERVICES] = made
    for module in ROUTES:
        app.add_routes(module.routes)
    if made.settings.dev.enabled:
        app.add_routes([*imports.routes, *developer.routes])
    return app


@web.middleware
async def _answered(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error as a problem, every request in the metrics."""
    started_s = time.perf_counter()
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except problems.Problem as problem:
        response, status = problem.response(), problem.status
    except web.HTTPException as error:
        response, status = problems.from_http(error).response(), error.status
    except HistoryUnavailableError as error:
        status = 503
        detail = "the history store cannot be read"
        log.warning(detail, error=str(error))
        response = problems.Problem(503, "history_unavailable", detail).response()
    except (ConnectionError, asyncio.CancelledError):
        status = 499  # the client went away
        raise
    except Exception as error:
        log.exception("request failed", method=request.method, path=request.path)
        response = problems.Problem(500, "internal", "an unexpected error").response()
        if type(error) is Exception and is_damage(error):  # rocksdict raises bare Exceptions
            # Of the view: nothing that it says can be trusted from here on.
            request.app[SERVICES].feed.give_up(error)
    finally:
        _observe(request, status, time.perf_counter() - started_s)
    return response


def _observe(request: web.Request, status: int, elapsed_s: float) -> None:
    resource = request.match_info.route.resource
    route = "unknown" if resource is None else resource.canonical
    key = (request.method, route, status)
    child = _timers.get(key)
    if child is None:
        # A client can make methods up; each would be a time series for ever.
        method = request.method if request.method in METHODS else "other"
        child = metrics.HTTP_SECONDS.labels(method, route, str(status)).observe
        if method == request.method:
            _timers[key] = child
    child(elapsed_s)


_timers: dict[tuple[str, str, int], Callable[[float], None]] = {}


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, or until the view can no longer be filled (FeedError)."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with services(settings) as made, serving(build(made), settings.http) as port:
        log.info("http serves", host=settings.http.host, port=port)
        failures = (made.feed.failed, made.writer.failed)
        for failed in failures:
            failed.add_done_callback(lambda _: stopping.set())
        await stopping.wait()
        for failed in failures:
            if failed.done():
                failed.result()


def run(settings: Settings) -> None:
    """Run the sidecar in the foreground."""
    import sys  # noqa: PLC0415 - for this process only

    logs.configure(settings.log_level, NAME)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    asyncio.run(serve(settings))
