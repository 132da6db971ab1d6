"""Metrics that one server knows by itself, whether the database answers or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from usage_service.service import Service
from usage_service.shared.postgres import Pool
from usage_service.shared.stream_limit import StreamLimit


class ServiceCollector(Collector):
    """Collector of what the parts of a service count, read at each scrape."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of recording, of waiting callers, of the listener, of the pools and of streams."""
        service = self._service
        yield from self._recording()
        yield GaugeMetricFamily(
            "glam_build_waiters", "Requests and streams that wait for a build to change.", service.watch.waiting
        )
        yield GaugeMetricFamily(
            "glam_night_waiters", "Requests that wait for a night to change.", service.night_watch.waiting
        )
        yield GaugeMetricFamily(
            "glam_listener_up", "Whether the connection that listens is there.", service.listener.connected
        )
        yield from _pools({"requests": service.pool, "background": service.background})
        yield from _streams(
            {
                "build_events": service.streams,
                "tail": service.tails,
                "arrow": service.arrow_readings,
                "mirror": service.mirror_readings,
            }
        )

    def _recording(self) -> Iterator[Metric]:
        ingest = self._service.ingest
        yield _counted(
            "glam_events",
            "Valid events, by what became of them; those unavailable (503) and queue_full (429) are sent again.",
            "outcome",
            ingest.fates.items(),
        )
        yield _counted(
            "glam_events_refused",
            "Invalid events (422), by the field that is wrong.",
            "reason",
            self._service.reader.refusals.items(),
        )
        yield GaugeMetricFamily("glam_ingest_queued_events", "Events that wait to be committed.", ingest.queued_events)
        yield GaugeMetricFamily(
            "glam_ingest_queue_limit_events", "Events that may wait; more are refused.", ingest.most_events
        )
        yield GaugeMetricFamily(
            "glam_recording_failing_seconds",
            "Seconds for which no event could be recorded; 0 while all is well.",
            ingest.health.failing_seconds,
        )


def _counted(name: str, help_text: str, label: str, counts: Iterable[tuple[str, int]]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, help_text, labels=[label])
    for value, count in counts:
        family.add_metric([value], count)
    return family


def _pools(pools: Mapping[str, Pool]) -> Iterator[Metric]:
    used = GaugeMetricFamily("glam_pool_used_connections", "Connections to PostgreSQL in use.", labels=["pool"])
    most = GaugeMetricFamily("glam_pool_limit_connections", "Connections that may be in use.", labels=["pool"])
    for name, pool in pools.items():
        used.add_metric([name], pool.get_size() - pool.get_idle_size())
        most.add_metric([name], pool.get_max_size())
    yield from (used, most)


def _streams(limits: Mapping[str, StreamLimit]) -> Iterator[Metric]:
    used = GaugeMetricFamily("glam_stream_used_places", "Places of streams that are taken.", labels=["kind"])
    most = GaugeMetricFamily(
        "glam_stream_limit_places", "Places that there are; more are refused, and to one token half.", labels=["kind"]
    )
    for kind, limit in limits.items():
        used.add_metric([kind], limit.taken)
        most.add_metric([kind], limit.most)
    refused = _counted(
        "glam_streams_refused",
        "Streams refused (429), as no place was left, in all or to their token.",
        "kind",
        ((kind, limit.refused) for kind, limit in limits.items()),
    )
    yield from (used, most, refused)
