"""Aggregation of probes: the warehouse aggregates their pings, and Python makes the statistics of the rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from types import MappingProxyType
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import structlog
from google.cloud import bigquery

from builder.aggregates.bucket_list import BOOLEANS, distribution_buckets, stored_type
from builder.aggregates.cells import Cells, cells_by_probe
from builder.aggregates.metric_shapes import Family
from builder.aggregates.probe import BuildRequest, BuiltProbe, BuiltTogether, ProbeRow, Progress, Rows
from builder.aggregates.rows import Layout, ProbeRows
from builder.aggregates.scalar_ranges import ScalarRanges
from builder.aggregates.source import Reading, SourceOptions, latest_version_statement, only_ping, probe_statement
from builder.aggregates.statistics import Integers
from builder.bigquery import JobOptions, JobRunner, Tick
from builder.control import Control
from builder.errors import PermanentBuildError
from usage_service.shared.tracing import span_ids

__all__ = [
    "AggregateOptions",
    "BuildRequest",
    "BuiltProbe",
    "BuiltTogether",
    "ProbeRow",
    "Progress",
    "aggregate_probe",
    "aggregate_probes",
    "estimate_probes",
]

LOG = structlog.get_logger(__name__)

Built = Rows | PermanentBuildError
LayoutOf = Callable[[int, Cells], Layout]
"""Returns the layout of the cells of the probe at a place among those that are read."""

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
    [rows] = built
    if isinstance(rows, PermanentBuildError):
        raise rows
    return BuiltProbe(rows, built.bytes_processed, built.job_ids)


def aggregate_probes(
    client: bigquery.Client,
    job: UUID,
    requests: Sequence[BuildRequest],
    options: AggregateOptions,
    progress: Progress,
    control: Control | None = None,
    labels: Mapping[str, str] = MappingProxyType({}),
) -> BuiltTogether:
    """Read these probes, which have the same Reading, together: what all pings have is read once.

    The warehouse's jobs are named after `job`, and are over when this returns; the cells are still to be fetched, one
    probe after the other. Raises what `aggregate_probe` raises, but for what is the fault of one probe.
    """
    aggregation = _Aggregation(client, job, requests, options, progress, control or Control(), labels)
    each = aggregation.each()
    runner = aggregation.runner
    LOG.info("probes_aggregated", job=str(job), probes=len(requests), bytes=runner.bytes_processed)
    return BuiltTogether(runner.bytes_processed, runner.job_ids, each)


def estimate_probes(
    client: bigquery.Client, requests: Sequence[BuildRequest], options: AggregateOptions, control: Control | None = None
) -> int:
    """Return the bytes that `aggregate_probes` would read of these probes, by dry runs, which read nothing.

    Raise PermanentBuildError where a statement is not valid, and TransientBuildError. Blocks.
    """
    return _Aggregation(client, uuid4(), requests, options, lambda *_: None, control or Control(), {}).estimate()


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
        self._reading = reading
        self._source = options.source
        self._progress = progress
        self._checked = [_stored_type(request) for request in requests]
        read = [pair for pair in zip(requests, self._checked, strict=True) if isinstance(pair[1], str)]
        self._requests = [request for request, _ in read]
        self._types = [str(stored) for _, stored in read]

    def each(self) -> Iterator[Built]:
        """Return the rows of each, by metric key, version, ping type, system, build and client_agg_type.

        A probe that cannot be laid out by its definition has its error, and is not read.
        """
        built = self._built() if self._requests else iter(())
        return (next(built) if isinstance(checked, str) else checked for checked in self._checked)

    def estimate(self) -> int:
        """Return the bytes that the statements would read."""
        if not self._requests:
            return 0
        known = self._reading.latest_version
        names = (
            ["scalar_ranges", "scalar_cells"] if self._reading.family is Family.SCALAR else [self._reading.family.value]
        )
        statements = [probe_statement(name, self._requests, self._source, known or 0) for name in names]
        if known is None:
            statements.append(latest_version_statement(self._requests[0], self._source))
        return sum(map(self.runner.estimate, statements))

    def _built(self) -> Iterator[Built]:
        latest = self._latest_version()
        if latest is None:
            return repeat([])
        if self._reading.family is Family.SCALAR:
            return self._scalar(latest)
        layout = self._distribution if self._reading.family is Family.DISTRIBUTION else self._boolean
        return self._laid_out(self._reading.family.value, latest, FIRST_PERCENT, layout)

    def _latest_version(self) -> int | None:
        if self._reading.latest_version is not None:
            return self._reading.latest_version
        statement = latest_version_statement(self._requests[0], self._source)
        rows = self.runner.run(statement, self._tick("finding_version", VERSION_PERCENT))
        return next((row["version"] for row in rows), None)

    def _scalar(self, latest: int) -> Iterator[Built]:
        ranges = ScalarRanges(self._run("scalar_ranges", latest, "finding_range", FIRST_PERCENT))
        if not ranges:
            return repeat([])

        def layout(place: int, cells: Cells) -> Layout:
            return Layout(self._types[place], partial(ranges.buckets, place), _below(cells), raw=False)

        return self._laid_out("scalar_cells", latest, SECOND_PERCENT, layout, ranges.parameter())

    def _distribution(self, place: int, cells: Cells) -> Layout:
        request = self._requests[place]
        buckets = distribution_buckets(request.metric_type, request.definition, cells.buckets)
        return Layout.shared(self._types[place], buckets, cells, raw=True)

    def _boolean(self, place: int, cells: Cells) -> Layout:
        return Layout.shared(self._types[place], BOOLEANS, cells, raw=False)

    def _laid_out(
        self, name: str, latest: int, percent: int, layout: LayoutOf, ranges: Sequence[str] = ()
    ) -> Iterator[Built]:
        cells = cells_by_probe(self._run(name, latest, "aggregating", percent, ranges), len(self._requests))
        return map(partial(self._rows, layout), range(len(self._requests)), cells)

    def _rows(self, layout: LayoutOf, place: int, cells: Cells | PermanentBuildError) -> Built:
        self._tick("statistics", STATISTICS_PERCENT)(0)
        if isinstance(cells, PermanentBuildError):
            return cells
        return ProbeRows(cells, layout(place, cells), self._reading.sampling.weight, only_ping(self._requests[0]))

    def _run(
        self, name: str, latest: int, stage: str, percent: int, ranges: Sequence[str] = ()
    ) -> Iterator[Mapping[str, Any]]:
        statement = probe_statement(name, self._requests, self._source, latest, ranges)
        return self.runner.run(statement, self._tick(stage, percent))

    def _tick(self, stage: str, percent: int) -> Tick:
        """Return a callback that reports the stage, with the bytes of this statement and of those before it."""
        return lambda read: self._progress(stage, percent, self.runner.bytes_processed + read)

    def _show(self, stage: str) -> None:
        self._progress(stage, 0, self.runner.bytes_processed)


def _stored_type(request: BuildRequest) -> str | PermanentBuildError:
    try:
        return stored_type(request.metric_type, request.definition)
    except PermanentBuildError as error:
        return error


def _below(cells: Cells) -> Integers:
    """Return the place of each bucket of scalar_cells.sql, which tells how many bounds are at or below the value."""
    return np.array(cells.buckets, dtype=np.int64) - 1
