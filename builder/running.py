"""A builder process: its connections, its listener and its worker."""

from __future__ import annotations

import os
import socket
from datetime import timedelta

import structlog

from builder.bigquery import JobOptions, make_client
from builder.compute import ComputeOptions, compute_probe
from builder.queue import BuildQueue
from builder.settings import BuilderSettings
from builder.source import SourceOptions
from builder.thresholds import Thresholds
from builder.worker import Compute, Worker
from usage_service.shared.lifetime import Lifetime
from usage_service.shared.listener import Listener
from usage_service.shared.postgres import open_pool
from usage_service.shared.schema import install_schema
from usage_service.shared.tasks import Tasks

CHANNEL = "build_requested"

log = structlog.get_logger(__name__)


def warehouse_computation(settings: BuilderSettings) -> Compute:
    """What computes a probe on the warehouse of the settings; blocks, so it is to be run in a thread."""
    client = make_client(settings.project, settings.warehouse_url, settings.location)
    options = ComputeOptions(
        SourceOptions(
            project=settings.pings_project,
            thresholds=Thresholds().scaled(settings.threshold_scale),
            sampled_by_clients=frozenset(settings.sampled_by_clients.split(",")) - {""},
        ),
        JobOptions(maximum_bytes_billed=settings.most_bytes, deadline_seconds=settings.build_seconds),
    )
    return lambda request, progress: compute_probe(client, request, options, progress)


async def run_builder(settings: BuilderSettings) -> bool:
    """Builds until SIGTERM or SIGINT, then finishes what is under way. False when a background task died."""
    lifetime = Lifetime()
    await install_schema(settings.database_url)
    name = f"builder-{socket.gethostname()}-{os.getpid()}"
    async with open_pool(
        settings.database_url, role="usage_builder", application=name, size=settings.concurrency * 2 + 2
    ) as pool:
        queue = BuildQueue(pool, name, timedelta(seconds=settings.lease_seconds))
        worker = Worker(queue, warehouse_computation(settings), settings)
        listener = Listener(settings.listen_url, [CHANNEL], lambda _channel, _payload: worker.wake())
        async with Tasks(lifetime.died) as tasks:
            tasks.start("listener", listener.run())
            tasks.start("worker", worker.run())
            log.info("building", worker=name, concurrency=settings.concurrency)
            await lifetime.wait()
        await worker.stop()
    return lifetime.healthy
