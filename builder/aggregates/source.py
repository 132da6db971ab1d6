"""The statements of a build, which read the raw pings of one probe, or of several that are read alike at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from types import MappingProxyType
from typing import NamedTuple

from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from builder.aggregates.metric_shapes import DAYS_OF_VALUES, Family, shape_of
from builder.aggregates.probe import BuildRequest
from builder.aggregates.sampling import SAMPLED_CHANNELS, Sampling, sampling_of
from builder.aggregates.thresholds import Thresholds
from builder.queries import render
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.statement import Parameter, Statement, identifier, table_name

PINGS_PROJECT = "moz-fx-data-shared-prod"
# By product, or by product and channel; the stable tables are in the dataset of this name plus "_stable".
DATASETS: Mapping[str, str] = MappingProxyType({
    "fog": "firefox_desktop",
    "fenix/nightly": "org_mozilla_fenix",
    "fenix/beta": "org_mozilla_firefox_beta",
    "fenix/release": "org_mozilla_firefox",
})  # fmt: skip
PRODUCTS = ("fog", "fenix")  # each has its own form of build ids, and a file build_hour_<product>.sql
# Fenix has no version of its own on nightly: this table in the app's dataset has that of its engine by build hour.
GECKOVIEW_VERSIONS = "geckoview_version"
GECKOVIEW = ("fenix", "nightly")
VERSIONS = 3
VERSION_DAYS = 28
VERSION_CLIENTS = 5
OLDEST_BUILD, NEWEST_BUILD = timedelta(days=365), timedelta(days=3)  # before and after the run's midnight, exclusive
CLIENT_DAYS = "client_days"
SHARED_PARTS = ("shown", "labels", "scalar_bounds", "scalar_logarithms", "scalar_bucket")
LABELS = MappingProxyType({
    "sent_labels": "entry.key",
    "sent_dual_labels": "CONCAT(category.key, '[', entry.key, ']')",
    "sent_labeled_buckets": "labeled.key",
    "sent_declared_labels": "entry.key",
})  # fmt: skip


@dataclass(frozen=True)
class SourceOptions:
    """The place of the pings, how far back they are read, minimum numbers of clients, and sampling."""

    project: str = PINGS_PROJECT
    datasets: Mapping[str, str] = field(default_factory=lambda: DATASETS)
    history: timedelta = OLDEST_BUILD
    thresholds: Thresholds = field(default_factory=Thresholds)
    sampled_by_clients: frozenset[str] = frozenset()
    sampled_channels: Mapping[str, int] = field(default_factory=lambda: SAMPLED_CHANNELS)

    def sampling(self, request: BuildRequest) -> Sampling:
        """Return the sampling of a build's Windows clients."""
        return sampling_of(request.channel, request.probe, self.sampled_by_clients, self.sampled_channels)


class Reading(NamedTuple):
    """Common ground of probes that one statement can read: equal readings, one statement."""

    product: str
    channel: str
    pings: tuple[str, ...]
    run_date: date
    latest_version: int | None
    sampling: Sampling
    family: Family

    @classmethod
    def of(cls, request: BuildRequest, options: SourceOptions) -> Reading:
        """Return the reading of a probe. Raise UnsupportedMetricError for a type that is never built."""
        return cls(
            request.product,
            request.channel,
            tuple(sorted(set(request.pings))),
            request.run_date,
            request.latest_version,
            options.sampling(request),
            shape_of(request.metric_type, request.probe, request.definition).family,
        )


def probe_statement(requests: Sequence[BuildRequest], options: SourceOptions, latest: int) -> Statement:
    """Return the statement that reads probes, which all have the same Reading. It is named after their family.

    Each has its place among `requests` in the column `probe` of the result.
    """
    request = requests[0]
    source = _source(request, options)
    shapes = [shape_of(request.metric_type, request.probe, request.definition) for request in requests]
    columns = {
        probe: shape.value(request.metric_type, request.probe)
        for probe, (request, shape) in enumerate(zip(requests, shapes, strict=True))
    }
    family = shapes[0].family
    sent = _sent(family, [shape.sent for shape in shapes], columns)
    name = family.value
    parts = {
        "received": source.union("pings", values=_each("value", columns)),
        "origins": source.origins(),
        "numbers": render("numbers"),
        "builds": render("builds", all_pings=CLIENT_DAYS if CLIENT_DAYS in sent else "pings"),
        "values": _each("value_name", columns),
        "sent": ",\n".join(render("named", name=of, query=query) for of, query in sent.items()),
    }
    combinations = render("combinations")
    shared = {part: render(part) for part in SHARED_PARTS}
    shared |= {"combinations": combinations, "distinct_clients": render("distinct_clients", combinations=combinations)}
    sql = render(
        name,
        sent=render("sent", **parts),
        by_probe=render("by_probe") if len(requests) > 1 else "",
        **shared,
    )
    return _statement(name, sql, _probe_parameters(request, options, latest))


def latest_version_statement(request: BuildRequest, options: SourceOptions) -> Statement:
    """Return the statement that finds the largest version with more than five clients in the 28 days up to the run."""
    source = _source(request, options)
    versions = source.union("versions", build_id="client_info.app_build" if source.geckoview else "''")
    since = request.run_date - timedelta(days=VERSION_DAYS - 1)
    minimum = _scalar("minimum_version_clients", "INT64", VERSION_CLIENTS)
    parameters = (*_submitted(since, request.run_date), _scalar("channel", "STRING", request.channel), minimum)
    return _statement("latest_version", render("latest_version", versions=versions, **source.places), parameters)


@dataclass(frozen=True)
class PingSource:
    """The tables of a product's pings by ping type, and what tells their channel, version and build.

    `channel_column`: whether the pings have to be of the channel asked for, by their own word; else the tables decide.
    `geckoview`: the table that has the versions by build hour, where it is not the ping that tells its version.
    """

    product: str
    tables: Mapping[str, str] = field(default_factory=dict)
    channel_column: bool = True
    geckoview: str | None = None

    @property
    def places(self) -> dict[str, str]:
        """Return what stands for a build hour and a version in the statements."""
        build_hour = render(f"build_hour_{self.product}")
        if self.geckoview is None:
            return {"build_hour": build_hour, "version": render("sent_version"), "build_versions": ""}
        joined = render("geckoview_versions", table=self.geckoview)
        return {"build_hour": build_hour, "version": "geckoview_version", "build_versions": joined}

    def origins(self) -> str:
        """Return the query that finds the version and the build hour of each kind of ping in `received`."""
        return render("origins", **self.places)

    def union(self, name: str, **places: str) -> str:
        """Return the query that reads the pings of all types by the statement `name`."""
        read = render("read", of_channel="client_info.app_channel = @channel" if self.channel_column else "TRUE")
        sent_version = "''" if self.geckoview else "COALESCE(client_info.app_display_version, '')"
        common = {"read": read, "sent_version": sent_version, **places}
        return _union(render(name, ping=ping, table=table, **common) for ping, table in self.tables.items())


def only_ping(request: BuildRequest) -> str | None:
    """Return the one ping type that carries the probe; None where there are several."""
    pings = sorted(set(request.pings))
    return pings[0] if len(pings) == 1 else None


def _statement(name: str, sql: str, parameters: tuple[Parameter, ...]) -> Statement:
    used = set(re.findall(r"@(\w+)", sql))
    return Statement(name, sql, tuple(parameter for parameter in parameters if parameter.name in used))


def _sent(family: Family, files: Sequence[str], columns: Mapping[int, str]) -> dict[str, str]:
    """Return the queries that take the values out of the pings, by name. The file of each probe says how."""
    by_file: dict[str, dict[int, str]] = {}
    for probe, file in enumerate(files):
        by_file.setdefault(file, {})[probe] = columns[probe]
    queries, days = dict[str, str](), []
    if values := by_file.pop(DAYS_OF_VALUES, None):
        queries[CLIENT_DAYS] = render(CLIENT_DAYS, days=_each("value_days", values))
        days.append(render(DAYS_OF_VALUES))
    if by_file:
        queries["sent"] = _union(_sent_by_ping(file, own) for file, own in by_file.items())
        days.append(render("days_of_labels"))
    return queries | ({"days": _union(days)} if family is Family.SCALAR else {})


def _sent_by_ping(file: str, columns: Mapping[int, str]) -> str:
    text = LABELS.get(file)
    return render(file, label=render("label", text=text) if text else "", probes=_each("probed", columns))


def _each(name: str, columns: Mapping[int, str]) -> str:
    """Return what the file `name` has for each of the probes, by its number, with the column that it is sent in."""
    return ",\n    ".join(render(name, probe=str(probe), value=value) for probe, value in columns.items())


def _union(queries: Iterable[str]) -> str:
    return "\nUNION ALL\n".join(queries)


def _source(request: BuildRequest, options: SourceOptions) -> PingSource:
    product, channel = request.product, request.channel
    app_dataset = options.datasets.get(f"{product}/{channel}")
    dataset = app_dataset or options.datasets.get(product)
    if product not in PRODUCTS or dataset is None:
        raise PermanentWorkError("unsupported", f"probes of the product {product!r} on {channel!r} are not built")
    if not request.pings:
        raise PermanentWorkError("unsupported", f"no ping is known to carry {request.probe}")
    pings = sorted(set(request.pings))
    tables = {ping: table_name(options.project, f"{dataset}_stable", f"{identifier(ping)}_v1") for ping in pings}
    geckoview = table_name(options.project, dataset, GECKOVIEW_VERSIONS) if (product, channel) == GECKOVIEW else None
    # Each app of Fenix is a channel, whatever its pings say.
    return PingSource(product, tables, product != "fenix" or app_dataset is None, geckoview)


def _probe_parameters(request: BuildRequest, options: SourceOptions, latest: int) -> tuple[Parameter, ...]:
    sampling = options.sampling(request)
    minimum = options.thresholds.of(request.product, request.channel)
    counts = {
        "first_version": latest - VERSIONS + 1,
        "last_version": latest,
        "windows_sample_ids": sampling.sample_ids,
        "windows_weight": sampling.weight,
        "minimum_build_clients": minimum.build_clients,
        "minimum_row_users": minimum.row_users,
    }
    return (
        *_submitted(request.run_date - options.history, request.run_date),
        _scalar("after_build_hour", "STRING", f"{request.run_date - OLDEST_BUILD:%Y%m%d}00"),
        _scalar("before_build_hour", "STRING", f"{request.run_date + NEWEST_BUILD:%Y%m%d}00"),
        _scalar("channel", "STRING", request.channel),
        _scalar("nul", "STRING", "\0"),  # which PostgreSQL does not store
        _array("any_ping", "BOOL", [True] if only_ping(request) else [False, True]),
        *(_scalar(name, "INT64", value) for name, value in counts.items()),
    )


def _submitted(first: date, last: date) -> tuple[Parameter, ...]:
    bounds = {"since": first, "until": last + timedelta(days=1)}
    return tuple(_scalar(name, "TIMESTAMP", datetime.combine(day, time(), tzinfo=UTC)) for name, day in bounds.items())


def _scalar(name: str, kind: str, value: str | int | date) -> Parameter:
    return ScalarQueryParameter(name, kind, value)


def _array(name: str, kind: str, values: Sequence[object]) -> Parameter:
    return ArrayQueryParameter(name, kind, list(values))
