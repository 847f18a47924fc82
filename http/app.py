"""The HTTP sidecar: composition root, routes, startup and shutdown."""

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
from segments.http.auth.authorization import AUTHORIZER, create_authorizer
from segments.http.auth.rate_limits import LIMITS, RateLimits
from segments.http.context import SERVICES, Services
from segments.http.openapi import document as openapi
from segments.http.read.view_consumer import TOPICS, ViewConsumer
from segments.http.read.waiters import Waiters
from segments.http.read.watermark import Watermark
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
from segments.http.write.producer import CommandProducer
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
# Busy reader threads must not keep the event loop waiting for the GIL.
SWITCH_INTERVAL_S = 0.0005

log = logs.get(__name__)


def view_folder(settings: Settings) -> Path:
    """The directory of this instance's view."""
    return settings.data_dir / f"http-{settings.instance}" / "view"


@asynccontextmanager
async def open_services(settings: Settings) -> AsyncIterator[Services]:
    """Start everything the handlers work with; stop it in reverse order."""
    # Identifies the topics the view is built from: recreated topics need a new view.
    identity = {
        "topics": topic_ids(settings, TOPICS),
        "partitions": settings.http.partitions,
    }
    view = View(view_folder(settings), identity)
    history = open_reader(settings)
    waiters = Waiters(view, settings.http.max_waiters)
    watermark = Watermark(view, history)

    producer = CommandProducer(settings, waiters)

    def on_progress(advanced: list[int], results: Mapping[str, bytes]) -> None:
        watermark.update(advanced)
        producer.forget_all(results)
        waiters.notify(advanced, results)

    consumer = ViewConsumer(settings, view, on_progress)
    pool = ThreadPoolExecutor(settings.http.read_threads, thread_name_prefix="read")
    # Read once from several hundred files, before any request waits for it.
    await asyncio.to_thread(report_rows.zone_names)
    consumer.start()
    try:
        yield Services(settings, view, waiters, consumer, producer, history, watermark, pool)
    finally:
        await asyncio.to_thread(consumer.close)
        await asyncio.to_thread(producer.close)
        pool.shutdown(wait=True, cancel_futures=True)
        await history.close()
        view.close()


def routes(settings: Settings) -> list[Routes]:
    """The routes that these settings enable."""
    modules = (*ROUTES, imports, developer) if settings.dev.enabled else ROUTES
    return [module.routes for module in modules]


def operations(settings: Settings) -> tuple[Operation, ...]:
    """The operations that these settings enable, as declared by their routes."""
    return tuple(itertools.chain.from_iterable(module.operations for module in routes(settings)))


def interface(settings: Settings) -> dict[str, Any]:
    """The OpenAPI document for these settings."""
    return openapi.document(operations(settings), openapi.Variant.of(settings))


def build(services: Services) -> web.Application:
    """The application that serves requests with these services."""
    app = web.Application()
    settings = services.settings
    app[SERVICES] = services
    app[MAX_BODY_BYTES] = settings.http.max_body_bytes
    app[AUTHORIZER] = authorizer = create_authorizer(settings)
    app[LIMITS] = RateLimits(settings)
    app.cleanup_ctx.append(report_runner.run_jobs)
    app.on_startup.append(lambda _: authorizer.start())
    app.on_cleanup.append(lambda _: authorizer.close())
    app[docs.OPERATIONS] = operations(settings)
    for module in routes(settings):
        middleware.add_routes(app, module)
    middleware.add_catch_all(app)
    return app


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, or until the view consumer or the producer has failed.

    ViewConsumerError if the view cannot be continued; ExposedError if the settings would let other
    machines in without credentials.
    """
    require_guard(settings.auth, settings.http.host)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    async with (
        open_services(settings) as services,
        serving(build(services), settings.http) as port,
    ):
        log.info("http_ready", host=settings.http.host, port=port)
        # Everything allocated so far is permanent; scanning it in each collection would take 50 ms.
        gc.collect()
        gc.freeze()
        failures = (services.view_consumer.failed, services.producer.failed)
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
