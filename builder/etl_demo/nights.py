"""Nights of the ETL on the embedded warehouse: all probes, the hot list one by one, the hot list in one pass."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from itertools import count
from pathlib import Path
from statistics import median
from uuid import uuid4

import msgspec
from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, aggregate_probe
from builder.aggregates.definition import Definition
from builder.aggregates.probe import BuildRequest
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.etl_demo.views import ProbeViews
from builder.nights.rehearsal import rehearse
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.progress import Report

# The sample holds some thousands of clients; upstream's minimums for release are in the hundred thousands.
SAMPLE_MINIMUM = Minimum(build_clients=50, row_users=10)
SAMPLE_OPTIONS = AggregateOptions(SourceOptions(thresholds=Thresholds({}, SAMPLE_MINIMUM)))
SAMPLE_BYTES_TOGETHER = 250_000_000  # an eighth of the embedded warehouse's memory: docs/speed.md


class Built(msgspec.Struct, frozen=True):
    """A probe that was built, with its costs; `error` is set when it cannot be built."""

    probe: str
    metric_type: str
    bytes: int = 0
    seconds: float = 0.0
    rows: int = 0
    error: str | None = None


class Night(msgspec.Struct, frozen=True):
    """A night of the ETL: the number of probes built, their costs, and the views that these probes answer."""

    probes: int
    bytes: int
    seconds: float
    rows: int
    views_answered: int
    views_missed: int


class NewProbe(msgspec.Struct, frozen=True):
    """The seconds after which a probe that is new today has its rows: after a night of all probes, or on demand.

    On demand it is the median of the probes that were built one by one, each with its whole window of pings.
    """

    after_a_night: float
    on_demand: float


class Missed(msgspec.Struct, frozen=True):
    """A viewed probe that is not built at night, with its views and the costs of building it on demand."""

    probe: str
    views: int
    seconds: float
    bytes: int


class Comparison(msgspec.Struct, frozen=True):
    """The nights, the probes that the hot list misses (the most viewed first), and those that could not be built."""

    views_source: str = msgspec.field(name="demand")
    all_probes: Night
    hot_list: Night
    in_one_pass: Night
    new_probe: NewProbe
    missed: list[Missed]
    failed: list[Built]


def requests_of(registrations: Path, product: str, channel: str, run_date: date) -> list[BuildRequest]:
    """Return a request for each probe of a product, by name, from its registration events."""
    events = [json.loads(line) for line in registrations.read_text("utf-8").splitlines()]
    registered: dict[str, list[dict[str, object]]] = {}
    for event in events:
        if event["product"] == product:
            registered.setdefault(event["probe"], []).append(event["data"])
    return [_request(product, channel, probe, data, run_date) for probe, data in sorted(registered.items())]


def _request(
    product: str, channel: str, probe: str, registered: Sequence[dict[str, object]], run_date: date
) -> BuildRequest:
    kind, pings = str(registered[-1]["type"]), tuple(str(data["ping"]) for data in registered)
    definition = msgspec.convert(registered[-1], Definition)
    return BuildRequest(uuid4(), product, channel, probe, kind, pings, run_date, None, definition)


def build_all(
    client: bigquery.Client, requests: Iterable[BuildRequest], options: AggregateOptions, report: Report
) -> list[Built]:
    """Build one probe after the other; a probe that cannot be built stops none of the others."""
    built = []
    for request in requests:
        built.append(_build(client, request, options))
        report(len(built))
    return built


def _build(client: bigquery.Client, request: BuildRequest, options: AggregateOptions) -> Built:
    began = time.perf_counter()
    try:
        result = aggregate_probe(client, request, options, lambda *_: None)
    except PermanentWorkError as error:
        return Built(request.probe, request.metric_type, error=error.message)
    seconds = time.perf_counter() - began
    return Built(request.probe, request.metric_type, result.bytes_processed, seconds, len(result.rows))


def build_in_one_pass(
    client: bigquery.Client, hot: Sequence[BuildRequest], options: AggregateOptions, views: ProbeViews, report: Report
) -> Night:
    """Build the probes that are hot in the jobs of a night, and return it."""
    began = time.perf_counter()
    size, rows = 0, dict[str, int]()
    tried = count(1)
    for requests, together in rehearse(client, hot, options, SAMPLE_BYTES_TOGETHER):
        size += together.bytes_processed
        for request, built in zip(requests, together, strict=True):
            if not isinstance(built, PermanentWorkError):
                rows[request.probe] = len(built)
            report(next(tried))
    return _night_of(views, list(rows), size, time.perf_counter() - began, sum(rows.values()))


def compare(built: Sequence[Built], in_one_pass: Night, views: ProbeViews) -> Comparison:
    """Return the night of all probes that were built beside those of the hot list alone."""
    good, hot = [item for item in built if item.error is None], set(views.hot)
    missed = [
        Missed(item.probe, views.by_probe[item.probe], item.seconds, item.bytes)
        for item in good
        if item.probe not in hot and views.by_probe.get(item.probe)
    ]
    all_probes = _night(good, views)
    on_demand = median([item.seconds for item in good]) if good else 0.0
    return Comparison(
        views.source,
        all_probes,
        _night([item for item in good if item.probe in hot], views),
        in_one_pass,
        NewProbe(all_probes.seconds, on_demand),
        sorted(missed, key=lambda item: (-item.views, item.probe)),
        [item for item in built if item.error is not None],
    )


def _night(built: Sequence[Built], views: ProbeViews) -> Night:
    return _night_of(
        views,
        [item.probe for item in built],
        sum(item.bytes for item in built),
        sum(item.seconds for item in built),
        sum(item.rows for item in built),
    )


def _night_of(views: ProbeViews, probes: Sequence[str], size: int, seconds: float, rows: int) -> Night:
    answered = sum(views.by_probe.get(probe, 0) for probe in probes)
    return Night(len(probes), size, seconds, rows, answered, sum(views.by_probe.values()) - answered)


def today() -> date:
    """Return the day of the run, in UTC."""
    return datetime.now(UTC).date()
