"""The Prometheus metrics of a builder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app, start_http_server

from builder.attempt import Attempt
from builder.queue import Claim
from builder.work import Outcome
from usage_service.shared.bigquery.errors import WAITING_STAGES
from usage_service.shared.log_metrics import LogCollector
from usage_service.shared.settings import SettingsError
from usage_service.shared.version import running_version

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

SLOWEST_NOTIFICATION_SECONDS = 1.0
PICKUP_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)
BUILD_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)

log = structlog.get_logger(__name__)


class DeliveryOutcome(StrEnum):
    """The outcomes of an attempt to take a batch of rows to the sink."""

    DELIVERED = "delivered"
    FAILED = "failed"  # and tried again
    LOST = "lost"  # the lease, or the database


class BuilderMetrics:
    """The metrics of one builder, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        registry.register(LogCollector())
        self.running = {
            "build": Gauge("glam_builder_running", "Builds that this builder runs.", registry=registry),
            "shared_job": Gauge(
                "glam_builder_shared_jobs_running", "Jobs of nights that this builder runs.", registry=registry
            ),
        }
        self.waiting = Gauge(
            "glam_builder_waiting",
            "Builds of this builder that wait for the warehouse, by stage: for a quota, or until it answers.",
            ["stage"],
            registry=registry,
        )
        self.notifications_arrive = Gauge(
            "glam_builder_listener_check_passed",
            "1 when the last listener check got its notification, else 0.",
            registry=registry,
        )
        self.listener_up = Gauge("glam_listener_up", "Whether the connection that listens is there.", registry=registry)
        self.leases_expired = Counter(
            "glam_builder_leases_expired", "Leases that ran out, of builders without a heartbeat.", registry=registry
        )
        self._pickup = Histogram(
            "glam_builder_pickup_seconds",
            "From when a build could be claimed until it was.",
            ["prefetched"],
            buckets=PICKUP_BUCKETS,
            registry=registry,
        )
        self._attempts = Counter(
            "glam_builder_attempts", "Attempts that ended, by outcome.", ["outcome"], registry=registry
        )
        self._seconds = Histogram(
            "glam_builder_attempt_seconds",
            "How long attempts took.",
            ["outcome"],
            buckets=BUILD_BUCKETS,
            registry=registry,
        )
        self._shared_jobs = Counter(
            "glam_builder_shared_jobs",
            "Attempts at jobs of nights that ended, by outcome.",
            ["outcome"],
            registry=registry,
        )
        self._bytes = Counter("glam_builder_read_bytes", "Bytes that the warehouse read.", registry=registry)
        self._leases_lost = Counter(
            "glam_builder_leases_lost", "Attempts that another builder has taken over.", registry=registry
        )
        self._notifications_lost = Counter(
            "glam_builder_notifications_lost",
            "Builds found by a poll although a notification was sent.",
            registry=registry,
        )
        self._last_success = Gauge(
            "glam_builder_last_success_timestamp_seconds",
            "When an attempt last ended with rows, or with the finding that there are none; 0 before the first.",
            registry=registry,
        )
        self._deliveries = Counter(
            "glam_builder_deliveries", "Batches taken to the sink, by outcome.", ["outcome"], registry=registry
        )
        self._delivery_seconds = Histogram(
            "glam_builder_delivery_seconds",
            "How long batches took.",
            ["outcome"],
            buckets=BUILD_BUCKETS,
            registry=registry,
        )
        self._delivered_rows = Counter("glam_builder_delivered_rows", "Rows that the sink got.", registry=registry)
        self._merge_bytes = Counter(
            "glam_builder_delivery_read_bytes", "Bytes that the warehouse read to merge them.", registry=registry
        )
        for stage in WAITING_STAGES:
            self.waiting.labels(stage)
        for outcome in Outcome:
            self._attempts.labels(outcome.value)
            self._shared_jobs.labels(outcome.value)
        for delivery_outcome in DeliveryOutcome:
            self._deliveries.labels(delivery_outcome.value)

    def claimed(self, claim: Claim, by_poll: bool) -> None:
        """Count a claim. There is no notification of a build that is tried again, or that waits for others to end."""
        self._pickup.labels(str(claim.prefetched).lower()).observe(claim.waited_seconds)
        if by_poll and claim.attempt == 1 and claim.waited_seconds > SLOWEST_NOTIFICATION_SECONDS:
            self._notifications_lost.inc()
            log.warning("notification_lost", build_id=str(claim.build_id), waited_seconds=claim.waited_seconds)

    def ended(self, attempt: Attempt, seconds: float) -> None:
        """Count an attempt that ended; one whose task was cancelled counts as lost."""
        outcome = attempt.outcome or Outcome.LOST
        self._bytes.inc(attempt.bytes)
        if attempt.work.kind == "shared_job":
            self._shared_jobs.labels(outcome.value).inc()
        if attempt.work.kind != "build":
            return
        self._attempts.labels(outcome.value).inc()
        self._seconds.labels(outcome.value).observe(seconds)
        if outcome in (Outcome.SUCCEEDED, Outcome.NO_DATA):
            self._last_success.set_to_current_time()
        if outcome is Outcome.LOST:
            self._leases_lost.inc()

    def delivered(self, rows: int, read: int) -> None:
        """Count the rows that the sink got, and the bytes read to merge them."""
        self._delivered_rows.inc(rows)
        self._merge_bytes.inc(read)

    def delivery_ended(self, outcome: DeliveryOutcome, seconds: float) -> None:
        """Count an attempt at a batch."""
        self._deliveries.labels(outcome.value).inc()
        self._delivery_seconds.labels(outcome.value).observe(seconds)


@contextmanager
def served(metrics: BuilderMetrics, host: str, port: int) -> Iterator[None]:
    """Serve the metrics while inside, but not on port 0. Raise SettingsError for a port that is taken."""
    if port == 0:
        yield
        return
    try:
        server, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise SettingsError(f"PROBE_BUILDER_METRICS_PORT: {host}:{port} cannot be listened on: {error}") from None
    server.set_app(_with_version(make_wsgi_app(metrics.registry)))
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _with_version(metrics: WSGIApplication) -> WSGIApplication:
    """Return an application that answers /__version__ (Mozilla's Dockerflow) beside the metrics."""

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != "/__version__":
            return metrics(environ, start_response)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [msgspec.json.encode(running_version())]

    return answer
