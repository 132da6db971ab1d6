"""aiohttp application, and the process that serves it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from importlib import import_module

import asyncpg
import structlog
from aiohttp import web
from prometheus_client import CollectorRegistry

from usage_service.hotlist.experiment import keep_experiment
from usage_service.hotlist.history import Histories
from usage_service.log.mirrored import require_client
from usage_service.projections.freshness import Positions
from usage_service.projections.state import snapshot
from usage_service.service import open_service
from usage_service.shared.errors import UserError
from usage_service.shared.lifetime import Lifetime
from usage_service.shared.postgres import UNAVAILABLE, Pool
from usage_service.shared.settings import ServerSettings, SettingsError
from usage_service.shared.tasks import Tasks
from usage_service.shared.tracing import is_traced
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.access import ACCESS, Access, check_exposure, guarded
from usage_service.web.answering import ANSWERING, Answering
from usage_service.web.api.glam_usage import USAGE_MISSES
from usage_service.web.api.hotlist import HISTORIES
from usage_service.web.api.metrics import METRICS, Metrics, get_metrics
from usage_service.web.api.popularity import VIEW_COUNTS
from usage_service.web.api.routes import ROUTES
from usage_service.web.bodies import MOST_BODY_BYTES
from usage_service.web.connections import GuardedRunner
from usage_service.web.cors import allow_origins
from usage_service.web.door import door
from usage_service.web.errors import problems_middleware
from usage_service.web.headers import add_headers, bind_request_id
from usage_service.web.keys import SERVICE
from usage_service.web.openapi.documentation import DOCUMENTATION, Documentation
from usage_service.web.openapi.operations import in_its_forms
from usage_service.web.pages.assets import VEGA_SCRIPT, make_charts
from usage_service.web.pages.presentation.vega import Vega
from usage_service.web.pages.problems import pages_middleware
from usage_service.web.pages.routes import PAGE_ROUTES
from usage_service.web.request_metrics import REQUEST_METRICS, RequestMetrics
from usage_service.web.tracing import trace_request

READ_AHEAD_SECONDS = 3.0

log = structlog.get_logger(__name__)


class ServerError(UserError):
    """Server that cannot start; the message says what to change."""


def create_app(settings: ServerSettings, died: Callable[[], None]) -> web.Application:
    """Return the application; `died` is called when one of its background tasks ends."""
    check_exposure(settings)
    if settings.mirror:
        require_client()
    elif settings.mirrors:
        raise SettingsError("USAGE_SERVICE_MIRROR_HERE: set USAGE_SERVICE_MIRROR, too, which names the dataset")
    app = web.Application(
        middlewares=[bind_request_id, pages_middleware, problems_middleware, door(settings)],
        client_max_size=MOST_BODY_BYTES,
    )
    registry = CollectorRegistry()
    app[REQUEST_METRICS] = RequestMetrics(registry)
    if is_traced():
        app.middlewares.insert(0, trace_request)
    app[DOCUMENTATION] = Documentation(ROUTES)
    app.on_response_prepare.append(add_headers)
    if settings.cors_origins:
        allow_origins(app, frozenset(settings.cors_origins.split(",")))
    for route in (*ROUTES, *PAGE_ROUTES):
        handler = guarded(in_its_forms(route.handler), route.scope)
        app.router.add_route(route.method, route.path, handler)
        if route.method == "GET":
            app.router.add_route("HEAD", route.path, handler)

    app[USAGE_MISSES] = settings.usage_misses

    async def service(app: web.Application) -> AsyncIterator[None]:
        async with open_service(settings, died) as opened, Tasks(died) as tasks:
            positions = Positions(opened.pool, opened.folded_growth)
            tasks.start("positions", positions.run())
            tasks.start("experiment", keep_experiment(opened.pool))
            if settings.mirrors:
                tasks.start("mirror", _keep_mirror(settings, opened.background))
            app[SERVICE] = opened
            app[ACCESS] = Access(settings, opened.pool)
            app[ANSWERING] = Answering(opened.pool, positions)
            app[METRICS] = Metrics(opened, registry)
            registry.register(app[ACCESS].guesses)
            app[HISTORIES] = Histories()
            app[VIEW_COUNTS] = await _view_counts(opened.pool)
            app[VEGA_SCRIPT] = Vega()
            yield

    app.cleanup_ctx.append(service)
    app.on_shutdown.append(_end_waits)
    return app


def create_metrics_app(app: web.Application) -> web.Application:
    """Return an application that answers GET /metrics as `app` does, but to everybody: for a port of its own."""
    own = web.Application()
    own[METRICS], own[REQUEST_METRICS] = app[METRICS], app[REQUEST_METRICS]
    own.router.add_get("/metrics", get_metrics)
    return own


async def _view_counts(pool: Pool) -> ViewCounts:
    """Return the view counts, read ahead unless that takes too long: a server that cannot read starts, too."""
    counts = ViewCounts()
    try:
        async with asyncio.timeout(READ_AHEAD_SECONDS), snapshot(pool, "popularity") as seen:
            await counts.read_ahead(seen.connection)
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        log.warning("not_read_ahead", error=repr(error))
    return counts


async def _keep_mirror(settings: ServerSettings, pool: Pool) -> None:
    """Keep the mirror of the log, as `usage-service mirror` does."""
    # Not before the server answers, and in a thread: the client of BigQuery takes a second to load.
    running = await asyncio.to_thread(import_module, "usage_service.mirror.running")
    await running.keep_mirror(pool, settings.database_url, running.place_of(settings), running.limits_of(settings))


async def _end_waits(app: web.Application) -> None:
    """End requests that wait for a build or a night, or follow one; their clients ask the next server."""
    app[SERVICE].watch.close()
    app[SERVICE].night_watch.close()


async def serve(settings: ServerSettings) -> bool:
    """Serve until SIGTERM or SIGINT, then finish open requests. Return False when a background task died."""
    lifetime = Lifetime()
    app = create_app(settings, lifetime.died)
    runner = GuardedRunner(
        app,
        keepalive_timeout=settings.keepalive_seconds,
        shutdown_timeout=settings.drain_seconds,
        handle_signals=False,
    )
    if not await lifetime.completes(runner.setup()):
        await runner.cleanup()
        return lifetime.healthy
    charts = asyncio.create_task(make_charts(app), name="charts")
    metrics = GuardedRunner(create_metrics_app(app), handle_signals=False)
    try:
        await _listen(runner, settings.host, settings.port, "USAGE_SERVICE_PORT")
        if settings.metrics_port:
            await metrics.setup()
            await _listen(metrics, settings.metrics_host, settings.metrics_port, "USAGE_SERVICE_METRICS_PORT")
        _collect_garbage_less()
        log.info("serving", host=settings.host, port=settings.port)
        await lifetime.wait()
        log.info("draining")
    finally:
        charts.cancel()
        await metrics.cleanup()
        await runner.cleanup()
    return lifetime.healthy


def _collect_garbage_less() -> None:
    # Requests make many short-lived objects and hardly any cycles; the garbage collector took a tenth of the time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _listen(runner: web.AppRunner, host: str, port: int, setting: str) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise ServerError(f"cannot listen on {host}:{port} ({error.strerror}); choose another {setting}") from None
