"""A builder process: its connections, its listener and its worker."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

import structlog
from google.cloud import bigquery

from builder import listener_check
from builder.aggregates.aggregating import AggregateOptions, aggregate_probe, aggregate_probes, estimate_probes
from builder.aggregates.together import read_alike
from builder.builds import Aggregate, BuildSource
from builder.listener_check import ListenerCheck
from builder.metrics import BuilderMetrics, served
from builder.nights.following import Following, NightState, NotBuilt
from builder.nights.queue import NightQueue
from builder.nights.work import ByteLimits, NightSource, Readings
from builder.orphaned_jobs import OrphanedJobs, StopJobs, stop_no_jobs
from builder.queue import BuildQueue
from builder.settings import BuilderSettings, source_options
from builder.sinks.delivering import Deliverer, Sink
from builder.sinks.glam_tables import GlamTables
from builder.sinks.outbox import Outbox
from builder.statement_notes import StatementNotes
from builder.work import Source
from builder.worker import Worker
from usage_service.shared.bigquery.jobs import JobOptions, make_client, stop_jobs
from usage_service.shared.errors import UserError
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.lifetime import Lifetime
from usage_service.shared.listener import Listener
from usage_service.shared.postgres import UNAVAILABLE, Pool, open_pool
from usage_service.shared.schema import DatabaseAwayError, install_schema
from usage_service.shared.tasks import Tasks

REQUESTED, CANCELLED = "build_requested", "build_cancelled"
CONNECTIONS_A_BUILD = 2  # it reports and stores, and so does a job of a night
OTHER_CONNECTIONS = 4  # for claims, the listener check, orphaned jobs and signs of life
CONNECTIONS_OF_A_SINK = 2  # it reads a batch and keeps its lease
GOES_ON = "the night goes on with the next builder, or when this is run again"
LIFE_SECONDS = 5.0  # between signs of life; a server counts builders that gave one within half a minute

log = structlog.get_logger(__name__)


class Warehouse(NamedTuple):
    """The functions that aggregate a probe or several, that stop the jobs of a build, and that take rows to a sink.

    All of them block: they are run in threads.
    """

    aggregate: Aggregate
    stop_jobs: StopJobs = stop_no_jobs
    readings: Readings | None = None
    sink: Sink | None = None
    notes: StatementNotes | None = None


def open_warehouse(settings: BuilderSettings) -> Warehouse:
    """Return the warehouse that the settings name."""
    client = make_client(settings.project, settings.warehouse_url, settings.location)
    jobs = JobOptions(maximum_bytes_billed=settings.most_bytes, deadline_seconds=settings.build_seconds)
    notes = StatementNotes()
    options = AggregateOptions(source_options(settings), jobs, notes.note)
    return warehouse_of(client, options, settings.sink_dataset)._replace(notes=notes)


def warehouse_of(client: bigquery.Client, options: AggregateOptions, dataset: str | None = None) -> Warehouse:
    """Return the warehouse that a client speaks to; `dataset` gets the rows, too, if it is given."""
    return Warehouse(
        lambda request, progress, control: aggregate_probe(client, request, options, progress, control),
        lambda work_id: stop_jobs(client, work_id, options.jobs),
        Readings(
            lambda requests: read_alike(requests, options.source),
            lambda requests, control: estimate_probes(client, requests, options, control),
            lambda job, requests, show, control: aggregate_probes(client, job, requests, options, show, control),
        ),
        Sink(dataset, GlamTables(client, dataset, options.jobs).deliver) if dataset else None,
    )


class WorkerDiedError(UserError):
    """The worker of a night died of a bug, which is in the log."""

    exit_code = ExitCode.WRONG


class NightResult(NamedTuple):
    """The end of a night, and the probes that were not built."""

    state: NightState
    not_built: list[NotBuilt]


def night_source(
    nights: NightQueue,
    readings: Readings,
    settings: BuilderSettings,
    queue: BuildQueue,
    expired: Callable[[int], None],
) -> NightSource:
    """Return the source of nights, with the limits of the settings."""
    limits = ByteLimits(
        settings.most_bytes, settings.most_bytes_together, settings.most_bytes_a_day, queue.bytes_left_today
    )
    return NightSource(nights, readings, settings.shared_jobs, limits, expired)


class Builder:
    """A worker, its listener for requests and cancellations, and its background tasks."""

    def __init__(self, pool: Pool, name: str, settings: BuilderSettings, warehouse: Warehouse) -> None:
        self.metrics = BuilderMetrics()
        lease = timedelta(seconds=settings.lease_seconds)
        self._queue = queue = BuildQueue(pool, name, lease)
        expired = self.metrics.leases_expired.inc
        sources: list[Source] = [
            BuildSource(queue, warehouse.aggregate, settings.concurrency, self.metrics.claimed, expired)
        ]
        if warehouse.readings and settings.shared_jobs:
            nights = NightQueue(pool, name, lease)
            sources.append(night_source(nights, warehouse.readings, settings, queue, expired))
        self.worker = Worker(sources, settings, self.metrics)
        self._orphaned_jobs = OrphanedJobs(queue, warehouse.stop_jobs, settings.poll_seconds)
        self._pool, self._notes = pool, warehouse.notes
        self._deliverer: Deliverer | None = None
        if warehouse.sink:
            outbox = Outbox(pool, warehouse.sink.name, name, timedelta(seconds=settings.lease_seconds))
            self._deliverer = Deliverer(outbox, warehouse.sink.deliver, settings, self.metrics)
        self._listener_check = ListenerCheck(queue.notify, self.metrics.notifications_arrive.set)
        self.listener = Listener(
            settings.listen_url, [REQUESTED, CANCELLED, listener_check.CHANNEL], self._on_notification
        )
        self.metrics.listener_up.set_function(lambda: self.listener.connected)

    def start(self, tasks: Tasks) -> None:
        """Start the background tasks, none of which should ever end."""
        tasks.start("listener check", self._listener_check.run())
        tasks.start("listener", self.listener.run())
        tasks.start("worker", self.worker.run())
        tasks.start("orphaned jobs", self._orphaned_jobs.run())
        tasks.start("signs of life", self._show_life())
        if self._deliverer:
            tasks.start("deliveries", self._deliverer.run())
        if self._notes:
            tasks.start("statements", self._notes.run(self._pool))

    async def _show_life(self) -> None:
        """Say in the database that this builder is alive, until cancelled."""
        while True:
            try:
                await self._queue.note_builder()
            except UNAVAILABLE as error:
                log.warning("sign_of_life_not_given", error=repr(error))
            await asyncio.sleep(LIFE_SECONDS)

    def _on_notification(self, channel: str | None, payload: str) -> None:
        if channel == REQUESTED:
            self.worker.wake()
        elif channel == CANCELLED:
            self.worker.cancel(payload)
        elif channel == listener_check.CHANNEL:
            self._listener_check.arrived(payload)
        else:  # the listener has connected
            self._listener_check.connected()
            self.worker.check()


async def run_night(
    settings: BuilderSettings, warehouse: Warehouse, night_id: UUID, show: Callable[[NightState], None]
) -> NightResult | None:
    """Do the jobs of a night beside whichever builders run, and return how it ended.

    None when SIGTERM or SIGINT came before: the night goes on with the next builder, or when it is asked for again.
    Raise WorkerDiedError when the worker did not outlive it, DatabaseAwayError when the database is away for too long.
    """
    lifetime = Lifetime()
    if not await lifetime.completes(install_schema(settings.database_url)):
        return None
    assert warehouse.readings is not None
    name = f"night-{socket.gethostname()}-{os.getpid()}"
    lease = timedelta(seconds=settings.lease_seconds)
    size = settings.shared_jobs * CONNECTIONS_A_BUILD + OTHER_CONNECTIONS
    metrics = BuilderMetrics()
    async with open_pool(settings.database_url, role="usage_builder", application=name, size=size) as pool:
        builds, queue = BuildQueue(pool, name, lease), NightQueue(pool, name, lease, night_id)
        source = night_source(queue, warehouse.readings, settings, builds, metrics.leases_expired.inc)
        worker = Worker([source], settings, metrics)
        following = Following(pool, night_id)
        results: list[NightResult] = []

        async def follow() -> None:
            ended = await following.until_over(show)
            results.append(NightResult(ended, await following.not_built()))

        async with Tasks(lifetime.died) as tasks:
            tasks.start("worker", worker.run())
            try:
                await lifetime.completes(follow())
            except UNAVAILABLE as error:
                raise DatabaseAwayError(f"the database is away ({error!r}); {GOES_ON}") from None
            finally:
                await worker.stop()
        if not results and not lifetime.healthy:
            raise WorkerDiedError(f"the worker has died, as the log says; {GOES_ON}")
        return results[0] if results else None


async def run_builder(settings: BuilderSettings, warehouse: Warehouse) -> bool:
    """Build until SIGTERM or SIGINT, then finish the running builds. Return False when a background task died."""
    lifetime = Lifetime()
    if not await lifetime.completes(install_schema(settings.database_url)):
        return lifetime.healthy
    name = f"builder-{socket.gethostname()}-{os.getpid()}"
    size = (settings.concurrency + settings.shared_jobs) * CONNECTIONS_A_BUILD + OTHER_CONNECTIONS
    size += CONNECTIONS_OF_A_SINK * bool(warehouse.sink)
    async with open_pool(settings.database_url, role="usage_builder", application=name, size=size) as pool:
        builder = Builder(pool, name, settings, warehouse)
        with served(builder.metrics, settings.metrics_host, settings.metrics_port):
            async with Tasks(lifetime.died) as tasks:
                builder.start(tasks)
                log.info("building", worker=name, concurrency=settings.concurrency)
                await lifetime.wait()
                await builder.worker.stop()
    return lifetime.healthy
