"""Aggregation of probes: the warehouse aggregates their pings, and Python makes the statistics of the rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from types import MappingProxyType
from uuid import UUID, uuid4

import numpy as np
import structlog
from google.cloud import bigquery

from builder.aggregates.bucket_list import BOOLEANS, distribution_buckets, stored_type
from builder.aggregates.cells import Cells, cells_by_probe
from builder.aggregates.metric_shapes import Family
from builder.aggregates.probe import BuildRequest, BuiltProbe, BuiltTogether, ProbeRow, Progress, Rows
from builder.aggregates.rows import Layout, ProbeRows
from builder.aggregates.scalar_ranges import scalar_bucket_list
from builder.aggregates.source import Reading, SourceOptions, latest_version_statement, only_ping, probe_statement
from builder.aggregates.statistics import Integers
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.jobs import JobOptions, JobRunner, Tick
from usage_service.shared.bigquery.pages import rows_of
from usage_service.shared.bigquery.statement import Statement
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

Built = Rows | PermanentWorkError
Note = Callable[[Sequence[UUID], Statement], None]
"""Called with the ids of builds and the statement that reads their pings, before it runs."""

VERSION_PERCENT, AGGREGATING_PERCENT, STATISTICS_PERCENT = 5, 10, 80


@dataclass(frozen=True)
class AggregateOptions:
    """The source of the pings, the limits of the jobs that read them, and what their statements are told to."""

    source: SourceOptions = field(default_factory=SourceOptions)
    jobs: JobOptions = field(default_factory=JobOptions)
    note: Note = lambda _builds, _statement: None


def aggregate_probe(
    client: bigquery.Client,
    request: BuildRequest,
    options: AggregateOptions,
    progress: Progress,
    control: Control | None = None,
) -> BuiltProbe:
    """Return all rows of a probe, none where too few clients sent it.

    Raise PermanentWorkError (UnsupportedMetricError among them), TransientWorkError, and whatever `progress` and
    `control` raise; WorkCancelledError cancels the warehouse's job too. Blocks: run it in a thread.
    """
    built = aggregate_probes(client, request.build_id, [request], options, progress, control, {"probe": request.probe})
    [rows] = built
    if isinstance(rows, PermanentWorkError):
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

    Raise PermanentWorkError where a statement is not valid, and TransientWorkError. Blocks.
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
        self._source, self._note = options.source, options.note
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
        statements = [probe_statement(self._requests, self._source, known or 0)]
        if known is None:
            statements.append(latest_version_statement(self._requests[0], self._source))
        return sum(map(self.runner.estimate, statements))

    def _built(self) -> Iterator[Built]:
        latest = self._latest_version()
        if latest is None:
            return repeat([])
        statement = probe_statement(self._requests, self._source, latest)
        self._note([request.build_id for request in self._requests], statement)
        pages = self.runner.run(statement, self._tick("aggregating", AGGREGATING_PERCENT))
        return map(self._rows, range(len(self._requests)), cells_by_probe(pages, len(self._requests)))

    def _latest_version(self) -> int | None:
        if self._reading.latest_version is not None:
            return self._reading.latest_version
        statement = latest_version_statement(self._requests[0], self._source)
        pages = self.runner.run(statement, self._tick("finding_version", VERSION_PERCENT))
        return next((row["version"] for row in rows_of(pages)), None)

    def _rows(self, place: int, cells: Cells | PermanentWorkError) -> Built:
        self._tick("statistics", STATISTICS_PERCENT)(0)
        if isinstance(cells, PermanentWorkError):
            return cells
        weight, ping = self._reading.sampling.weight, only_ping(self._requests[0])
        return ProbeRows(cells, self._layout(place, cells), weight, ping)

    def _layout(self, place: int, cells: Cells) -> Layout:
        request, stored = self._requests[place], self._types[place]
        if self._reading.family is Family.SCALAR:
            return Layout(stored, lambda key: scalar_bucket_list(*cells.ranges[key]), _below(cells), raw=False)
        if self._reading.family is Family.BOOLEAN:
            return Layout.shared(stored, BOOLEANS, cells, raw=False)
        buckets = distribution_buckets(request.metric_type, request.definition, cells.buckets)
        return Layout.shared(stored, buckets, cells, raw=True)

    def _tick(self, stage: str, percent: int) -> Tick:
        """Return a callback that reports the stage, with the bytes of this statement and of those before it."""
        return lambda read: self._progress(stage, percent, self.runner.bytes_processed + read)

    def _show(self, stage: str) -> None:
        self._progress(stage, 0, self.runner.bytes_processed)


def _stored_type(request: BuildRequest) -> str | PermanentWorkError:
    try:
        return stored_type(request.metric_type, request.definition)
    except PermanentWorkError as error:
        return error


def _below(cells: Cells) -> Integers:
    """Return the place of each bucket of scalar.sql, which tells how many bounds are at or below the value."""
    return np.array([int(bucket) for bucket in cells.buckets], dtype=np.int64) - 1
