"""Single steps of a build on given input: its SQL on the embedded warehouse, and the statistics of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import numpy as np
from google.cloud import bigquery
from google.cloud.bigquery import ArrayQueryParameter, ScalarQueryParameter

from builder.aggregates.bucket_list import BucketList, distribution_buckets
from builder.aggregates.cells import Cells, read_cells
from builder.aggregates.definition import Definition
from builder.aggregates.probe import BuildRequest, Combination, ProbeRow
from builder.aggregates.rows import Layout, ProbeRows
from builder.aggregates.sampling import SAMPLE_IDS
from builder.aggregates.source import PingSource, SourceOptions, probe_statement
from builder.aggregates.statistics import percentile_places
from builder.aggregates.thresholds import Minimum, Thresholds
from builder.queries import render
from tests.support.glam_today_reference import Ping
from tests.support.googlesql import PROBES
from tests.support.ping_makers import RUN_DATE, RUN_NOON
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner
from usage_service.shared.bigquery.pages import Page, rows_of
from usage_service.shared.bigquery.statement import Statement

Pairs = Sequence[tuple[str, float]]

LATEST = 150
EVERYBODY = Thresholds({}, Minimum(0, -1))  # shows rows without a client, too
RECEIVED = """
WITH received AS (
  SELECT 'metrics' AS ping_type, 'Linux' AS sent_os, '150.0' AS sent_version, build_id
  FROM UNNEST(@build_ids) AS build_id
)
SELECT build_id, build_hour FROM ({origins})
"""
BUCKET = "SELECT {bucket} AS bucket FROM (SELECT @bounds AS bounds, @value AS value)"
BOUNDS = """
SELECT place, {bounds} AS bounds
FROM (
  SELECT place, {logarithms}
  FROM (
    SELECT place, smallest, @largest[OFFSET(place)] AS largest
    FROM UNNEST(@smallest) AS smallest WITH OFFSET AS place
  )
)
ORDER BY place
"""
ORIGIN_PARAMETERS = (
    ScalarQueryParameter("nul", "STRING", "\0"),
    ScalarQueryParameter("windows_weight", "INT64", 1),
    ScalarQueryParameter("first_version", "INT64", LATEST),
    ScalarQueryParameter("last_version", "INT64", LATEST),
    ScalarQueryParameter("after_build_hour", "STRING", "2010010100"),
    ScalarQueryParameter("before_build_hour", "STRING", "2040010100"),
)


def pings_a_day(channel: str, pairs: Sequence[tuple[str, int]]) -> list[Ping]:
    """Return the pings of one sampled client, each of a day of its own, with one bucket of a distribution each."""
    return [
        replace(_ping(channel, timing_distribution=(pair,)), submitted=RUN_NOON - timedelta(days=number))
        for number, pair in enumerate(pairs)
    ]


def ping_of_labels(channel: str, histograms: Sequence[Mapping[str, int]]) -> Ping:
    """Return a ping of one sampled client with a distribution for each label, which is its place."""
    labeled = tuple((str(label), tuple(counts.items())) for label, counts in enumerate(histograms))
    return _ping(channel, labeled_timing_distribution=labeled)


def _ping(channel: str, **sent: object) -> Ping:
    return Ping("client", RUN_NOON, os="Windows", sample_id=0, app_channel=channel, sent=sent)


@dataclass(frozen=True)
class Shares:
    """The buckets of one metric key over all systems, builds and ping types: clients' shares, and raw counts."""

    amounts: dict[str, float]
    counts: dict[str, int]


@dataclass(frozen=True)
class WarehouseSteps:
    """The steps that the warehouse takes, on the pings of a channel."""

    client: bigquery.Client

    def build_hours(self, product: str, build_ids: Sequence[str]) -> dict[str, str]:
        """Return the build hours of those build ids that have one, as origins.sql finds them."""
        ids = ArrayQueryParameter("build_ids", "STRING", build_ids)
        sql = RECEIVED.replace("{origins}", PingSource(product).origins())
        pages = self._run(Statement("origins", sql, (ids, *ORIGIN_PARAMETERS)))
        return {row["build_id"]: row["build_hour"] for row in rows_of(pages)}

    def shares(self, channel: str, weight: int, metric_type: str = "timing_distribution") -> dict[str, Shares]:
        """Return the shares of distribution.sql by metric key, where each client stands for `weight` clients."""
        options = SourceOptions(thresholds=EVERYBODY, sampled_channels={channel: SAMPLE_IDS // weight})
        statement = probe_statement([_request(channel, metric_type)], options, LATEST)
        cells = read_cells(self._run(statement))
        return {
            about.metric_key: _shares(cells, place)
            for place, about in enumerate(cells.combinations)
            if (about.ping_type, about.os, about.build_hour) == ("*", "*", "*")
        }

    def bucket_number(self, bounds: Sequence[float], value: float) -> int:
        """Return how many of the bounds are at or below the value, as scalar.sql counts them."""
        sql = BUCKET.replace("{bucket}", render("scalar_bucket"))
        parameters = ArrayQueryParameter("bounds", "FLOAT64", bounds), ScalarQueryParameter("value", "FLOAT64", value)
        [row] = rows_of(self._run(Statement("bucket", sql, parameters)))
        return int(row["bucket"])

    def scalar_bounds(self, smallest: Sequence[float], largest: Sequence[float]) -> list[list[float]]:
        """Return the bounds that scalar.sql makes for each pair of a smallest and a largest value."""
        sql = BOUNDS.replace("{bounds}", render("scalar_bounds"))
        sql = sql.replace("{logarithms}", render("scalar_logarithms"))
        pairs = {"smallest": smallest, "largest": largest}
        parameters = tuple(ArrayQueryParameter(name, "FLOAT64", values) for name, values in pairs.items())
        return [row["bounds"] for row in rows_of(self._run(Statement("bounds", sql, parameters)))]

    def _run(self, statement: Statement) -> Iterator[Page]:
        return JobRunner(self.client, uuid4(), {}, JobOptions()).run(statement, lambda _: None)


def _request(channel: str, metric_type: str) -> BuildRequest:
    return BuildRequest(uuid4(), "fog", channel, PROBES[metric_type], metric_type, ("metrics",), RUN_DATE, LATEST)


def _shares(cells: Cells, place: int) -> Shares:
    own = slice(cells.starts[place], cells.starts[place + 1])
    keys = [cells.buckets[bucket] for bucket in cells.bucket[own]]
    amounts, counts = cells.amount[own].tolist(), cells.counts[own].tolist()
    return Shares(dict(zip(keys, amounts, strict=True)), dict(zip(keys, counts, strict=True)))


def page_of(rows: Iterable[Mapping[str, Any]]) -> Page:
    """Return rows of a result as a page of it; `cells` of each are triples of bucket, amount and samples."""
    columns = [*Combination._fields, "probe", "users", "samples", "weighted"]
    given = list(rows)
    page: dict[str, list[Any]] = {name: [row.get(name) for row in given] for name in columns}
    texts = [[f"{samples} {amount!r} {bucket}" for bucket, amount, samples in row["cells"]] for row in given]
    return page | {"cells": ["\0".join(cells) for cells in texts]}


def ordered(keys: Sequence[str]) -> BucketList:
    """Return these keys in the order of the bucket list that a build makes: by number, names by text."""
    if not all(key.isdigit() for key in keys):
        return distribution_buckets("labeled_counter", Definition(labels=tuple(keys)), keys)
    largest = max(2, *map(int, keys))
    every = distribution_buckets("custom_distribution", Definition("linear", 0, largest, largest + 1), keys)
    return BucketList(tuple(key for key in every.keys if key in keys))


def row_of(values: Pairs, buckets: BucketList) -> ProbeRow:
    """Return the row that a build makes of one combination's cells; the raw counts are the values, too."""
    about: dict[str, object] = {"probe": 0, "version": LATEST, "metric_key": "", "client_agg_type": "summed_histogram"}
    about |= {"ping_type": "*", "os": "*", "build_hour": "*"}
    about |= {"users": sum(value for _, value in values), "samples": 0, "weighted": False}
    cells = read_cells([page_of([about | {"cells": [(key, value, int(value)) for key, value in values]}])])
    [row] = ProbeRows(cells, Layout.shared("timing_distribution", buckets, cells, raw=True), 1, None)
    return row


def percentile(percent: float, counts: Pairs, buckets: BucketList) -> float:
    """Return the key of the percentile of a histogram of these buckets."""
    row = [dict(counts)[key] for key in buckets.keys]
    [[place]] = percentile_places(np.array([row], dtype=np.int64), (percent,)).tolist()
    return float(buckets.json_numbers[place])
