"""The queue of builds as Prometheus reads it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import GaugeMetricFamily

from usage_service.builds.listing import QueueState
from usage_service.builds.requests import State
from usage_service.service import Service

LABELS = ["state", "prefetched"]


def queue_metrics(states: list[QueueState]) -> Iterator[GaugeMetricFamily]:
    """How many builds there are in each state, what they cost, and how long the oldest waits to be claimed."""
    builds = GaugeMetricFamily("glam_builds", "In a state; of those over the last day's.", labels=LABELS)
    attempts = GaugeMetricFamily("glam_build_attempts", "Attempts of the builds in a state.", labels=LABELS)
    read = GaugeMetricFamily("glam_build_bytes", "Bytes that they read in the warehouse.", labels=LABELS)
    oldest = GaugeMetricFamily(
        "glam_build_queue_oldest_seconds", "For how long the oldest could have been claimed.", labels=["prefetched"]
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


def watch_gauges(service: Service, registry: CollectorRegistry) -> None:
    """Registers how many requests wait for builds and follow them."""
    waiting = Gauge("glam_build_waiters", "Requests and streams that wait for a build to change.", registry=registry)
    waiting.set_function(lambda: service.watch.waiting)
    streams = Gauge("glam_build_streams", "Streams of a build's events that are open.", registry=registry)
    streams.set_function(lambda: service.streams.taken)
