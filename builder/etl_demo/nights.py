"""The nightly ETL on the embedded warehouse, of all probes and of the hot list: what is saved, and what is missed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import uuid4

import msgspec
from google.cloud import bigquery

from builder.aggregates.aggregating import ComputeOptions, compute_probe
from builder.aggregates.definition import Definition
from builder.aggregates.probe import BuildRequest
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.errors import PermanentBuildError
from builder.etl_demo.demand import Demand
from usage_service.shared.progress import Report

# The sample holds some thousands of clients; upstream's minimums for release are in the hundred thousands.
SAMPLE_MINIMUM = Minimum(build_clients=50, row_users=10)
SAMPLE_OPTIONS = ComputeOptions(SourceOptions(thresholds=Thresholds({}, SAMPLE_MINIMUM)))


class Built(msgspec.Struct, frozen=True):
    """What one probe cost; `error` where it cannot be built."""

    probe: str
    metric_type: str
    bytes: int = 0
    seconds: float = 0.0
    rows: int = 0
    error: str | None = None


class Night(msgspec.Struct, frozen=True):
    """One way to spend the night: what is built, what it costs, and which share of the views it answers."""

    probes: int
    bytes: int
    seconds: float
    rows: int
    views_answered: int
    views_missed: int


class Missed(msgspec.Struct, frozen=True):
    """A probe that is not built at night: how often it was looked at, and what building it on demand takes."""

    probe: str
    views: int
    seconds: float
    bytes: int


class Comparison(msgspec.Struct, frozen=True):
    """Both nights, what the hot list misses (the most viewed first), and what could not be built."""

    demand: str
    all_probes: Night
    hot_list: Night
    missed: list[Missed]
    failed: list[Built]


def requests_of(registrations: Path, product: str, channel: str, run_date: date) -> list[BuildRequest]:
    """A request for each probe of a product, by name, from its registration events."""
    events = [json.loads(line) for line in registrations.read_text("utf-8").splitlines()]
    known: dict[str, list[dict[str, object]]] = {}
    for event in events:
        if event["product"] == product:
            known.setdefault(event["probe"], []).append(event["data"])
    return [_request(product, channel, probe, data, run_date) for probe, data in sorted(known.items())]


def _request(
    product: str, channel: str, probe: str, registered: Sequence[dict[str, object]], run_date: date
) -> BuildRequest:
    kind, pings = str(registered[-1]["type"]), tuple(str(data["ping"]) for data in registered)
    definition = msgspec.convert(registered[-1], Definition)
    return BuildRequest(uuid4(), product, channel, probe, kind, pings, run_date, None, definition)


def build_all(
    client: bigquery.Client, requests: Iterable[BuildRequest], options: ComputeOptions, report: Report
) -> list[Built]:
    """Builds one probe after the other; a probe that cannot be built stops none of the others."""
    built = []
    for request in requests:
        built.append(_build(client, request, options))
        report(len(built))
    return built


def _build(client: bigquery.Client, request: BuildRequest, options: ComputeOptions) -> Built:
    began = time.perf_counter()
    try:
        found = compute_probe(client, request, options, lambda *_: None)
    except PermanentBuildError as error:
        return Built(request.probe, request.metric_type, error=error.message)
    seconds = time.perf_counter() - began
    return Built(request.probe, request.metric_type, found.bytes_processed, seconds, len(found.rows))


def compare(built: Sequence[Built], demand: Demand) -> Comparison:
    """The night of all that was built beside that of the hot list alone."""
    good, hot = [item for item in built if item.error is None], set(demand.hot)
    missed = [
        Missed(item.probe, demand.views[item.probe], item.seconds, item.bytes)
        for item in good
        if item.probe not in hot and demand.views.get(item.probe)
    ]
    return Comparison(
        demand.source,
        _night(good, demand),
        _night([item for item in good if item.probe in hot], demand),
        sorted(missed, key=lambda item: (-item.views, item.probe)),
        [item for item in built if item.error is not None],
    )


def _night(built: Sequence[Built], demand: Demand) -> Night:
    answered = sum(demand.views.get(item.probe, 0) for item in built)
    return Night(
        len(built),
        sum(item.bytes for item in built),
        sum(item.seconds for item in built),
        sum(item.rows for item in built),
        answered,
        sum(demand.views.values()) - answered,
    )


def today() -> date:
    """The day of the run, in UTC."""
    return datetime.now(UTC).date()
