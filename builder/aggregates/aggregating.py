"""Aggregation of probes: the warehouse aggregates their pings, and Python makes the statistics of the rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

import numpy as np
import structlog
from google.cloud import bigquery

from builder.aggregates.bucket_list import BOOLEANS, BucketList, distribution_buckets, stored_type
from builder.aggregates.cells import Cells, read_cells
from builder.aggregates.metric_shapes import Family
from builder.aggregates.probe import BuildRequest, BuiltProbe, BuiltProbes, ProbeRow, Progress, Rows
from builder.aggregates.rows import Layout, ProbeRows
from builder.aggregates.scalar_ranges import ScalarRanges
from builder.aggregates.source import Reading, SourceOptions, latest_version_statement, only_ping, probe_statement
from builder.aggregates.statistics import Integers
from builder.bigquery import JobOptions, JobRunner, Tick
from builder.control import Control
from usage_service.shared.tracing import span_ids

__all__ = [
    "AggregateOptions",
    "BuildRequest",
    "BuiltProbe",
    "BuiltProbes",
    "ProbeRow",
    "Progress",
    "aggregate_probe",
    "aggregate_probes",
]

LOG = structlog.get_logger(__name__)

VERSION_PERCENT, FIRST_PERCENT, SECOND_PERCENT, STATISTICS_PERCENT = 5, 10, 45, 80


@dataclass(frozen=True)
class AggregateOptions:
    """The source of the pings, and the limits of the jobs that read them."""

    source: SourceOptions = field(default_factory=SourceOptions)
    jobs: JobOptions = field(default_factory=JobOptions)


def aggregate_probe(
    client: bigquery.Client,
    request: BuildRequest,
    options: AggregateOptions,
    progress: Progress,
    control: Control | None = None,
) -> BuiltProbe:
    """Return all rows of a probe, none where too few clients sent it.

    Raise PermanentBuildError (UnsupportedMetricError among them), TransientBuildError, and whatever `progress` and
    `control` raise; BuildCancelledError cancels the warehouse's job too. Blocks: run it in a thread.
    """
    built = aggregate_probes(client, request.build_id, [request], options, progress, control, {"probe": request.probe})
    return BuiltProbe(built.rows[0], built.bytes_processed, built.job_ids)


def aggregate_probes(
    client: bigquery.Client,
    job: UUID,
    requests: Sequence[BuildRequest],
    options: AggregateOptions,
    progress: Progress,
    control: Control | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> BuiltProbes:
    """Return the rows of each of these probes, which have the same Reading: what all pings have is read once.

    The warehouse's jobs are named after `job`. Raises what `aggregate_probe` raises.
    """
    aggregation = _Aggregation(client, job, requests, options, progress, control or Control(), labels)
    rows = aggregation.rows()
    runner = aggregation.runner
    LOG.info("probes_computed", job=str(job), probes=len(rows), rows=sum(map(len, rows)), bytes=runner.bytes_processed)
    return BuiltProbes(rows, runner.bytes_processed, runner.job_ids)


class _Aggregation:
    """The aggregation of probes that are read alike, step by step."""

    def __init__(
        self,
        client: bigquery.Client,
        job: UUID,
        requests: Sequence[BuildRequest],
        options: AggregateOptions,
        progress: Progress,
        control: Control,
        labels: Mapping[str, str],
    ) -> None:
        [reading] = {Reading.of(request, options.source) for request in requests}
        # The ids of the trace, so that a job is found by its trace, and a trace by its job.
        labels = {"product": reading.product, "channel": reading.channel} | dict(labels) | span_ids()
        self.runner = JobRunner(client, job, labels, options.jobs, control, self._show)
        self._requests = requests
        self._reading = reading
        self._source = options.source
        self._progress = progress
        self._types = [stored_type(request.metric_type, request.definition) for request in requests]

    def rows(self) -> list[Rows]:
        """Return the rows of each, in the order of metric key, version, ping type, system, build, client_agg_type."""
        latest = self._latest_version()
        if latest is None:
            return [[] for _ in self._requests]
        make = {Family.DISTRIBUTION: self._distribution, Family.BOOLEAN: self._boolean, Family.SCALAR: self._scalar}
        rows = make[self._reading.family](latest)
        self._tick("statistics", STATISTICS_PERCENT)(0)
        return rows

    def _latest_version(self) -> int | None:
        if self._reading.latest_version is not None:
            return self._reading.latest_version
        statement = latest_version_statement(self._requests[0], self._source)
        rows = self.runner.run(statement, self._tick("finding_version", VERSION_PERCENT))
        return next((row["version"] for row in rows), None)

    def _distribution(self, latest: int) -> list[Rows]:
        every = self._cells("distribution", latest, FIRST_PERCENT)
        return [
            self._made(cells, Layout.shared(stored, self._buckets(request, cells), cells, raw=True))
            for request, stored, cells in zip(self._requests, self._types, every, strict=True)
        ]

    def _boolean(self, latest: int) -> list[Rows]:
        every = self._cells("boolean", latest, FIRST_PERCENT)
        return [
            self._made(cells, Layout.shared(stored, BOOLEANS, cells, raw=False))
            for stored, cells in zip(self._types, every, strict=True)
        ]

    def _scalar(self, latest: int) -> list[Rows]:
        ranges = ScalarRanges(self._run("scalar_ranges", latest, "finding_range", FIRST_PERCENT))
        if not ranges:
            return [[] for _ in self._requests]
        every = self._cells("scalar_cells", latest, SECOND_PERCENT, ranges.parameter())
        return [
            self._made(cells, Layout(stored, partial(ranges.buckets, place), _below(cells), raw=False))
            for place, (stored, cells) in enumerate(zip(self._types, every, strict=True))
        ]

    def _cells(self, name: str, latest: int, percent: int, ranges: Sequence[str] = ()) -> list[Cells]:
        return read_cells(self._run(name, latest, "aggregating", percent, ranges), len(self._requests))

    def _run(
        self, name: str, latest: int, stage: str, percent: int, ranges: Sequence[str] = ()
    ) -> Iterator[Mapping[str, Any]]:
        statement = probe_statement(name, self._requests, self._source, latest, ranges)
        return self.runner.run(statement, self._tick(stage, percent))

    def _buckets(self, request: BuildRequest, cells: Cells) -> BucketList:
        return distribution_buckets(request.metric_type, request.definition, cells.buckets)

    def _made(self, cells: Cells, layout: Layout) -> Rows:
        return ProbeRows(cells, layout, self._reading.sampling.weight, only_ping(self._requests[0]))

    def _tick(self, stage: str, percent: int) -> Tick:
        """Return a callback that reports the stage, with the bytes of this statement and of those before it."""
        return lambda read: self._progress(stage, percent, self.runner.bytes_processed + read)

    def _show(self, stage: str) -> None:
        self._progress(stage, 0, self.runner.bytes_processed)


def _below(cells: Cells) -> Integers:
    """Return the place of each bucket of scalar_cells.sql, which tells how many bounds are at or below the value."""
    return np.array(cells.buckets, dtype=np.int64) - 1
