"""What is read: the tables, the columns, the days and the clients of one build, as statements."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta

from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from builder.errors import PermanentBuildError
from builder.metric_shapes import value_column
from builder.probe import BuildRequest
from builder.sampling import sampling_of
from builder.statement import Parameter, Statement, render, table_name
from builder.thresholds import Thresholds

STABLE_DATASETS = {"fog": "firefox_desktop_stable"}
PINGS_PROJECT = "moz-fx-data-shared-prod"
VERSIONS = 3
VERSION_DAYS = 28
VERSION_CLIENTS = 5
OLDEST_BUILD, NEWEST_BUILD = timedelta(days=365), timedelta(days=3)


@dataclass(frozen=True)
class SourceOptions:
    """Where the pings are, how far back they are read, and who is left out."""

    project: str = PINGS_PROJECT
    history: timedelta = OLDEST_BUILD
    thresholds: Thresholds = field(default_factory=Thresholds)
    sampled_by_clients: frozenset[str] = frozenset()


def probe_statement(
    name: str, request: BuildRequest, options: SourceOptions, latest: int, buckets: Sequence[float] | None = None
) -> Statement:
    """One of the statements that read the probe: distribution, scalar_range, scalar_counts (the one with buckets)."""
    value = value_column(request.metric_type, request.probe)
    tables = _tables(request, options)
    pings = _union([render("pings", ping=ping, table=table, value=value) for ping, table in tables.items()])
    shared = {"pings": pings, "builds": render("builds")}
    sql = render(name, scalar_clients=render("scalar_clients", **shared), **shared)
    parameters = _probe_parameters(request, options, latest)
    if buckets is not None:
        parameters = (*parameters, ArrayQueryParameter("buckets", "FLOAT64", list(buckets)))
    return Statement(name, sql, parameters)


def latest_version_statement(request: BuildRequest, options: SourceOptions) -> Statement:
    """The largest version with more than five clients in the 28 days that end with the run."""
    tables = _tables(request, options)
    versions = _union([render("versions", table=table) for table in tables.values()])
    since = request.run_date - timedelta(days=VERSION_DAYS - 1)
    minimum = ScalarQueryParameter("minimum_version_clients", "INT64", VERSION_CLIENTS)
    parameters = (*_submitted(since, request.run_date), _text("channel", request.channel), minimum)
    return Statement("latest_version", render("latest_version", versions=versions), parameters)


def _tables(request: BuildRequest, options: SourceOptions) -> dict[str, str]:
    dataset = STABLE_DATASETS.get(request.product)
    if dataset is None:
        raise PermanentBuildError("unsupported", f"probes of the product {request.product!r} are not built")
    if not request.pings:
        raise PermanentBuildError("unsupported", f"no ping is known to carry {request.probe}")
    return {ping: table_name(options.project, dataset, ping) for ping in sorted(set(request.pings))}


def _union(selects: list[str]) -> str:
    return "\nUNION ALL\n".join(selects)


def _probe_parameters(request: BuildRequest, options: SourceOptions, latest: int) -> tuple[Parameter, ...]:
    sampling = sampling_of(request.channel, request.probe, options.sampled_by_clients)
    minimum = options.thresholds.of(request.product, request.channel)
    counts = {
        "first_version": latest - VERSIONS + 1,
        "last_version": latest,
        "windows_sample_ids": sampling.sample_ids,
        "windows_weight": sampling.weight,
        "minimum_build_clients": minimum.build_clients,
    }
    return (
        *_submitted(request.run_date - options.history, request.run_date),
        ScalarQueryParameter("first_build_day", "DATE", request.run_date - OLDEST_BUILD),
        ScalarQueryParameter("last_build_day", "DATE", request.run_date + NEWEST_BUILD),
        _text("channel", request.channel),
        *(ScalarQueryParameter(name, "INT64", value) for name, value in counts.items()),
    )


def _submitted(first: date, last: date) -> tuple[Parameter, ...]:
    bounds = {"since": first, "until": last + timedelta(days=1)}
    return tuple(
        ScalarQueryParameter(name, "TIMESTAMP", datetime.combine(day, time(), tzinfo=UTC))
        for name, day in bounds.items()
    )


def _text(name: str, value: str) -> Parameter:
    return ScalarQueryParameter(name, "STRING", value)
