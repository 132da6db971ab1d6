"""GET /metrics: the metrics of the service for Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import get_args

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from usage_service.builds.listing import QueueState, queue_states
from usage_service.builds.requests import State
from usage_service.projections.state import Status, projection_statuses
from usage_service.queries import query
from usage_service.service import Service
from usage_service.shared.log_metrics import LogCollector
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.web.openapi.operations import Content, Response, described

SCRAPE_SECONDS = 2.0
QUEUE_LABELS = ["state", "prefetched"]


@dataclass(frozen=True)
class DatabaseState:
    """State of the database at one scrape; `log_end` is None when the database did not answer."""

    log_end: int | None = None
    projections: list[Status] = field(default_factory=list)
    queue: list[QueueState] = field(default_factory=list)


class DatabaseCollector(Collector):
    """Collector of the metrics that are read from the database at each scrape."""

    def __init__(self) -> None:
        self.state = DatabaseState()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of `state`."""
        log_end = self.state.log_end
        yield GaugeMetricFamily("glam_database_up", "Whether the database answered this scrape.", log_end is not None)
        if log_end is not None:
            yield GaugeMetricFamily("glam_log_end_position", "The last position of the log.", log_end)
            yield from self._projections()
            yield from _queue_metrics(self.state.queue)

    def _projections(self) -> Iterator[Metric]:
        position = _by_projection("position", "The position up to which every event is folded.")
        behind = _by_projection("behind_positions", "Positions between the projection and the end of the log.")
        seconds = _by_projection("behind_seconds", "Seconds that the first event not yet folded has waited.")
        failed = _by_projection("failed", "Whether there is an event that cannot be folded.")
        failed_after = _by_projection("failed_after_position", "The position before the event that cannot be folded.")
        for status in self.state.projections:
            labels = [status.name, status.stage]
            position.add_metric(labels, status.position)
            behind.add_metric(labels, status.behind)
            seconds.add_metric(labels, status.behind_seconds)
            failed.add_metric(labels, status.failed_after is not None)
            if status.failed_after is not None:
                failed_after.add_metric(labels, status.failed_after)
        yield from (position, behind, seconds, failed, failed_after)


def _by_projection(name: str, help_text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"glam_projection_{name}", help_text, labels=["projection", "stage"])


def _queue_metrics(states: list[QueueState]) -> Iterator[GaugeMetricFamily]:
    """Yield the builds in each state, their attempts and bytes, and the wait of the oldest that can be claimed."""
    builds = GaugeMetricFamily("glam_builds", "Builds; of those over, the last day's only.", labels=QUEUE_LABELS)
    attempts = GaugeMetricFamily("glam_build_attempts", "Attempts of the builds in a state.", labels=QUEUE_LABELS)
    read = GaugeMetricFamily("glam_build_bytes", "Bytes that builds read in the warehouse.", labels=QUEUE_LABELS)
    oldest = GaugeMetricFamily(
        "glam_build_queue_oldest_seconds",
        "Seconds for which the oldest build has been claimable.",
        labels=["prefetched"],
    )
    found = {(state.state, state.prefetched): state for state in states}
    for name, prefetched in product(get_args(State), (False, True)):
        state = found.get((name, prefetched), QueueState(name, prefetched, 0, 0, 0, 0))
        labels = [name, str(prefetched).lower()]
        builds.add_metric(labels, state.builds)
        attempts.add_metric(labels, state.attempts)
        read.add_metric(labels, state.bytes)
        if name == "queued":
            oldest.add_metric(labels[1:], state.oldest_seconds)
    yield from (builds, attempts, read, oldest)


def _register_watch_gauges(service: Service, registry: CollectorRegistry) -> None:
    waiting = Gauge("glam_build_waiters", "Requests and streams that wait for a build to change.", registry=registry)
    waiting.set_function(lambda: service.watch.waiting)
    streams = Gauge("glam_build_streams", "Streams of a build's events that are open.", registry=registry)
    streams.set_function(lambda: service.streams.taken)


class Metrics:
    """Metrics of one service, in a registry of its own."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self._service = service
        self._database = DatabaseCollector()
        self.registry.register(self._database)
        self.registry.register(LogCollector())
        queue = Gauge("glam_ingest_queued_events", "Events that wait to be committed.", registry=self.registry)
        queue.set_function(lambda: service.ingest.queued_events)
        failing = Gauge(
            "glam_recording_failing_seconds",
            "Seconds for which no event could be recorded; 0 while all is well.",
            registry=self.registry,
        )
        failing.set_function(lambda: service.ingest.health.failing_seconds)
        _register_watch_gauges(service, self.registry)

    async def exposition(self, accept: str) -> tuple[bytes, str]:
        """Return all metrics as text, and the media type: OpenMetrics for callers that accept it."""
        encode, content_type = choose_encoder(accept)
        self._database.state = await read_database(self._service)  # no await from here to the encoding
        return encode(self.registry), content_type


async def read_database(service: Service) -> DatabaseState:
    """Return the state of the database, read within SCRAPE_SECONDS."""
    try:
        async with (
            asyncio.timeout(SCRAPE_SECONDS),
            service.pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            log_end = await connection.fetchval(query("log", "end"))
            return DatabaseState(log_end, await projection_statuses(connection), await queue_states(connection))
    except UNAVAILABLE:
        return DatabaseState()


METRICS = web.AppKey("metrics", Metrics)


@described(
    Response(
        200,
        "the metrics in the text format of Prometheus, or as OpenMetrics when Accept asks for it",
        (Content("text/plain", str), Content("application/openmetrics-text", str)),
    )
)
async def get_metrics(request: web.Request) -> web.Response:
    """Get the metrics for Prometheus.

    The answer is 200 without the database, too: then `glam_database_up` is 0.
    """
    data, content_type = await request.app[METRICS].exposition(request.headers.get("Accept", ""))
    return web.Response(body=data, headers={"Content-Type": content_type})
