"""Aggregation of one probe: the warehouse aggregates its pings, and Python makes the statistics of the rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import structlog
from google.cloud import bigquery

from builder.aggregates.bucket_list import BOOLEANS, distribution_buckets, stored_type
from builder.aggregates.cells import Cells, read_cells
from builder.aggregates.metric_shapes import Family, shape_of
from builder.aggregates.probe import BuildRequest, BuiltProbe, ProbeRow, Progress, Rows
from builder.aggregates.rows import Layout, ProbeRows
from builder.aggregates.scalar_ranges import ScalarRanges
from builder.aggregates.source import SourceOptions, latest_version_statement, only_ping, probe_statement
from builder.bigquery import JobOptions, JobRunner, Tick
from builder.control import Control
from usage_service.shared.tracing import span_ids

__all__ = ["AggregateOptions", "BuildRequest", "BuiltProbe", "ProbeRow", "Progress", "aggregate_probe"]

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
    aggregation = _Aggregation(client, request, options, progress, control or Control())
    rows = aggregation.rows()
    runner = aggregation.runner
    LOG.info("probe_computed", build_id=str(request.build_id), rows=len(rows), bytes=runner.bytes_processed)
    return BuiltProbe(rows, runner.bytes_processed, runner.job_ids)


class _Aggregation:
    """The aggregation of one probe, step by step."""

    def __init__(
        self,
        client: bigquery.Client,
        request: BuildRequest,
        options: AggregateOptions,
        progress: Progress,
        control: Control,
    ) -> None:
        labels = {"product": request.product, "channel": request.channel, "probe": request.probe}
        # The ids of the trace, so that a job is found by its trace, and a trace by its job.
        self.runner = JobRunner(client, request.build_id, labels | span_ids(), options.jobs, control, self._show)
        self._request = request
        self._source = options.source
        self._progress = progress
        self._weight = options.source.sampling(request).weight
        self._family = shape_of(request.metric_type, request.probe, request.definition).family
        self._stored_type = stored_type(request.metric_type, request.definition)

    def rows(self) -> Rows:
        """Return the rows in the order of metric key, version, ping type, system, build and client_agg_type."""
        latest = self._latest_version()
        if latest is None:
            return []
        make = {Family.DISTRIBUTION: self._distribution, Family.BOOLEAN: self._boolean, Family.SCALAR: self._scalar}
        rows = make[self._family](latest)
        self._tick("statistics", STATISTICS_PERCENT)(0)
        return rows

    def _latest_version(self) -> int | None:
        if self._request.latest_version is not None:
            return self._request.latest_version
        statement = latest_version_statement(self._request, self._source)
        rows = self.runner.run(statement, self._tick("finding_version", VERSION_PERCENT))
        return next((row["version"] for row in rows), None)

    def _distribution(self, latest: int) -> Rows:
        cells = read_cells(self._run("distribution", latest, "aggregating", FIRST_PERCENT))
        buckets = distribution_buckets(self._request.metric_type, self._request.definition, cells.buckets)
        return self._made(cells, Layout.shared(self._stored_type, buckets, cells, raw=True))

    def _boolean(self, latest: int) -> Rows:
        cells = read_cells(self._run("boolean", latest, "aggregating", FIRST_PERCENT))
        return self._made(cells, Layout.shared(self._stored_type, BOOLEANS, cells, raw=False))

    def _scalar(self, latest: int) -> Rows:
        ranges = ScalarRanges(self._run("scalar_ranges", latest, "finding_range", FIRST_PERCENT))
        if not ranges:
            return []
        cells = read_cells(self._run("scalar_cells", latest, "aggregating", SECOND_PERCENT, ranges.parameter()))
        columns = np.array(cells.buckets, dtype=np.int64) - 1
        return self._made(cells, Layout(self._stored_type, ranges.buckets, columns, raw=False))

    def _run(
        self, name: str, latest: int, stage: str, percent: int, ranges: Sequence[str] = ()
    ) -> Iterator[Mapping[str, Any]]:
        statement = probe_statement(name, self._request, self._source, latest, ranges)
        return self.runner.run(statement, self._tick(stage, percent))

    def _made(self, cells: Cells, layout: Layout) -> Rows:
        return ProbeRows(cells, layout, self._weight, only_ping(self._request))

    def _tick(self, stage: str, percent: int) -> Tick:
        """Return a callback that reports the stage, with the bytes of this statement and of those before it."""
        return lambda read: self._progress(stage, percent, self.runner.bytes_processed + read)

    def _show(self, stage: str) -> None:
        self._progress(stage, 0, self.runner.bytes_processed)
