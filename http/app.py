"""The HTTP sidecar: its parts put together, its routes, its life from start to end."""

from __future__ import annotations

import asyncio
import gc
import itertools
import signal
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from segments.http import middleware
from segments.http.auth.authorization import ADMISSION, admission
from segments.http.auth.rate_limits import LIMITS, RateLimits
from segments.http.context import SERVICES, Services
from segments.http.openapi import document as openapi
from segments.http.read.view_consumer import TOPICS, Feed
from segments.http.read.waiters import Waiting
from segments.http.read.watermark import Completeness
from segments.http.reports import rows as report_rows
from segments.http.reports import runner as report_runner
from segments.http.routes import (
    commands,
    developer,
    docs,
    health,
    history,
    imports,
    members,
    memberships,
    report_jobs,
    reports,
    segments,
    users,
)
from segments.http.routing.body import MAX_BODY_BYTES
from segments.http.routing.operation import Operation
from segments.http.routing.routes import Routes
from segments.http.server.listener import serving
from segments.http.write.producer import CommandWriter
from segments.kafka.clients import topic_ids
from segments.settings import Settings
from segments.settings.auth import require_guard
from segments.state.history.sqlite import open_reader
from segments.state.view.view import View
from segments.telemetry import logs, metrics_server

NAME = "http"
ROUTES = (
    users,
    history,
    memberships,
    segments,
    members,
    commands,
    reports,
    report_jobs,
    health,
    docs,
)
# Threads that read much must not keep the event loop waiting for the interpreter.
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
        "topics": topic_ids(settings, TOPICS),
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
    await asyncio.to_thread(report_rows.zone_names)
    feed.start()
    try:
        yield Services(settings, view, waiting, feed, writer, history, completeness, pool)
    finally:
        await asyncio.to_thread(feed.close)
        await asyncio.to_thread(writer.close)
        pool.shutdown(wait=True, cancel_futures=True)
        await history.close()
        view.close()


def routes(settings: Settings) -> list[Routes]:
    """The routes that this deployment serves."""
    modules = (*ROUTES, imports, developer) if settings.dev.enabled else ROUTES
    return [module.routes for module in modules]


def operations(settings: Settings) -> tuple[Operation, ...]:
    """What this deployment serves, as its routes say it of themselves."""
    return tuple(itertools.chain.from_iterable(each.operations for each in routes(settings)))


def interface(settings: Settings) -> dict[str, Any]:
    """The OpenAPI document of this deployment."""
    return openapi.document(operations(settings), openapi.Variant.of(settings))


def build(made: Services) -> web.Application:
    """The application over these services."""
    app = web.Application()
    app[SERVICES] = made
    app[MAX_BODY_BYTES] = made.settings.http.max_body_bytes
    app[ADMISSION] = admitting = admission(made.settings)
    app[LIMITS] = RateLimits(made.settings)
    app.cleanup_ctx.append(report_runner.running)
    app.on_startup.append(lambda _: admitting.start())
    app.on_cleanup.append(lambda _: admitting.close())
    app[docs.OPERATIONS] = operations(made.settings)
    for each in routes(made.settings):
        middleware.add_routes(app, each)
    middleware.refuse_the_rest(app)
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, or until the view can no longer be filled (FeedError).

    ExposedError when anyone could come in from elsewhere.
    """
    require_guard(settings.auth, settings.http.host)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with services(settings) as made, serving(build(made), settings.http) as port:
        log.info("http serves", host=settings.http.host, port=port)
        # What is here by now stays: collections, for some 50 ms, would walk over all of it.
        gc.collect()
        gc.freeze()
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
    metrics_server.expose(settings, NAME)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    asyncio.run(serve(settings))
