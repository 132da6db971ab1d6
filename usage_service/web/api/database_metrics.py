"""Metrics that are read from the database: the same from every server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import get_args

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from usage_service.builds.listing import BuilderState, QueueState, builder_state, queue_states
from usage_service.builds.nights import NightState, NightsUnderWay, nights_under_way
from usage_service.builds.requests import State
from usage_service.builds.sinks import SinkState, sink_states
from usage_service.mirror.state import MirrorState, mirror_states
from usage_service.projections.state import Status, projection_statuses
from usage_service.queries import query
from usage_service.shared.postgres import Connection

QUEUE_LABELS = ["state", "prefetched"]
SINK_LABELS = ["sink", "product", "channel"]
MIRROR_METRICS: tuple[tuple[str, str, Callable[[MirrorState], float]], ...] = (
    ("position", "The position up to which a mirror of the log has every event.", lambda state: state.position),
    ("verified_position", "The position up to which it was found to have them.", lambda state: state.verified_to),
    ("behind_positions", "Positions between the mirror and the end of the log.", lambda state: state.behind),
    ("behind_seconds", "Seconds since the first event that it lacks was recorded.", lambda state: state.behind_seconds),
    ("failures", "Failures since a load last ended well; each is tried again.", lambda state: state.failures),
    ("differing_loads", "Loads that were found to be other than the log.", lambda state: state.differing),
)


@dataclass(frozen=True)
class DatabaseState:
    """State of the database at one scrape; `log_end` is None when the database did not answer."""

    log_end: int | None = None
    projections: list[Status] = field(default_factory=list)
    queue: list[QueueState] = field(default_factory=list)
    builders: BuilderState | None = None
    nights: list[NightsUnderWay] = field(default_factory=list)
    sinks: list[SinkState] = field(default_factory=list)
    mirrors: list[MirrorState] = field(default_factory=list)


async def read_database(connection: Connection) -> DatabaseState:
    """Return the state of the database at one instant."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return DatabaseState(
            await connection.fetchval(query("log", "end")),
            await projection_statuses(connection),
            await queue_states(connection),
            await builder_state(connection),
            await nights_under_way(connection),
            await sink_states(connection),
            await mirror_states(connection),
        )


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
            yield from _night_metrics(self.state.nights)
            yield from _sink_metrics(self.state.sinks)
            yield from _mirror_metrics(self.state.mirrors)
        if self.state.builders is not None:
            yield from _builder_metrics(self.state.builders)

    def _projections(self) -> Iterator[Metric]:
        position = _by_projection("position", "The position up to which every event is folded.")
        behind = _by_projection("behind_positions", "Positions between the projection and the end of the log.")
        seconds = _by_projection("behind_seconds", "Seconds that the first event not yet folded has waited.")
        failed = _by_projection("failed", "Whether it stands still, because it cannot go on.")
        failed_after = _by_projection("failed_after_position", "The position after which it cannot go on.")
        set_aside = _by_projection("dead_letters", "Events that could not be folded and are set aside.")
        for status in self.state.projections:
            labels = [status.name, status.stage]
            position.add_metric(labels, status.position)
            behind.add_metric(labels, status.behind)
            seconds.add_metric(labels, status.behind_seconds)
            failed.add_metric(labels, status.failed_after is not None)
            set_aside.add_metric(labels, status.set_aside)
            if status.failed_after is not None:
                failed_after.add_metric(labels, status.failed_after)
        yield from (position, behind, seconds, failed, failed_after, set_aside)


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


def _sink_metrics(states: list[SinkState]) -> Iterator[GaugeMetricFamily]:
    """Yield what each sink lacks of each channel, where builders have one."""
    waiting = GaugeMetricFamily("glam_sink_waiting_builds", "Builds whose rows a sink lacks.", labels=SINK_LABELS)
    overdue = GaugeMetricFamily(
        "glam_sink_overdue_seconds",
        "Seconds for which the first of them might have been taken there and was not.",
        labels=SINK_LABELS,
    )
    failures = GaugeMetricFamily(
        "glam_sink_failures", "Failures since a sink last took rows; each is tried again.", labels=SINK_LABELS
    )
    for state in states:
        labels = [state.sink, state.product, state.channel]
        waiting.add_metric(labels, state.waiting)
        overdue.add_metric(labels, state.overdue_seconds)
        failures.add_metric(labels, state.failures)
    yield from (waiting, overdue, failures)


def _mirror_metrics(states: list[MirrorState]) -> Iterator[GaugeMetricFamily]:
    """Yield how far each mirror of the log is, where there is one."""
    for name, help_text, value in MIRROR_METRICS:
        family = GaugeMetricFamily(f"glam_mirror_{name}", help_text, labels=["mirror"])
        for state in states:
            family.add_metric([state.mirror], value(state))
        yield family


def _night_metrics(states: list[NightsUnderWay]) -> Iterator[GaugeMetricFamily]:
    """Yield the nights under way, what they have to build still, and how long they have lasted and stood still."""
    nights = GaugeMetricFamily("glam_nights", "Nights that are not over.", labels=["state"])
    numbers = {state.state: state.nights for state in states}
    for name in get_args(NightState)[:-1]:
        nights.add_metric([name], numbers.get(name, 0))
    yield nights
    for name, help_text, values in (
        ("to_build", "Probes of nights under way that are still to be built.", [sum(one.to_build for one in states)]),
        ("oldest_seconds", "Seconds since a night under way was requested.", [one.oldest_seconds for one in states]),
        ("idle_seconds", "Seconds since a night under way made progress.", [one.idle_seconds for one in states]),
    ):
        yield GaugeMetricFamily(f"glam_night_{name}", help_text, max(values, default=0))


def _builder_metrics(state: BuilderState) -> Iterator[GaugeMetricFamily]:
    """Yield how many builders there are, and how long ago one last showed life, where one ever did."""
    yield GaugeMetricFamily("glam_builders", "Builders that showed life within half a minute.", state.alive)
    seen = GaugeMetricFamily("glam_builder_last_seen_seconds", "Seconds since a builder last showed life.", labels=[])
    if state.last_seen_seconds is not None:
        seen.add_metric([], state.last_seen_seconds)
    yield seen
