"""Computes one probe: the warehouse aggregates its pings, the statistics are made here."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import structlog
from google.cloud import bigquery

from builder.bigquery import JobOptions, JobRunner, Tick
from builder.control import Control
from builder.distribution import DistributionTable
from builder.metric_shapes import Aggregation, shape_of
from builder.probe import BuildRequest, BuiltProbe, ProbeRow, Progress
from builder.sampling import sampling_of
from builder.scalar import ScalarRange, ScalarTable
from builder.source import SourceOptions, latest_version_statement, probe_statement

__all__ = ["BuildRequest", "BuiltProbe", "ComputeOptions", "ProbeRow", "Progress", "compute_probe"]

LOG = structlog.get_logger(__name__)

VERSION_PERCENT, FIRST_PERCENT, SECOND_PERCENT, STATISTICS_PERCENT = 5, 10, 45, 80


@dataclass(frozen=True)
class ComputeOptions:
    """What is read, and the limits of the jobs that read it."""

    source: SourceOptions = field(default_factory=SourceOptions)
    jobs: JobOptions = field(default_factory=JobOptions)


def compute_probe(
    client: bigquery.Client,
    request: BuildRequest,
    options: ComputeOptions,
    progress: Progress,
    control: Control | None = None,
) -> BuiltProbe:
    """All rows of a probe, none where too few clients sent it.

    Raises PermanentBuildError (UnsupportedMetricError among them), TransientBuildError, and whatever `progress`
    and `control` raise; BuildCancelledError cancels the warehouse's job too. Blocks: run it in a thread.
    """
    computation = _Computation(client, request, options, progress, control or Control())
    rows = sorted(computation.rows(), key=_identity)
    runner = computation.runner
    LOG.info("probe_computed", build_id=str(request.build_id), rows=len(rows), bytes=runner.bytes_processed)
    return BuiltProbe(rows, runner.bytes_processed, runner.job_ids)


class _Computation:
    """The steps of one build."""

    def __init__(
        self,
        client: bigquery.Client,
        request: BuildRequest,
        options: ComputeOptions,
        progress: Progress,
        control: Control,
    ) -> None:
        labels = {"product": request.product, "channel": request.channel, "probe": request.probe}
        self.runner = JobRunner(client, request.build_id, labels, options.jobs, control)
        self._request = request
        self._source = options.source
        self._progress = progress
        self._shape = shape_of(request.metric_type, request.probe)
        self._minimum = options.source.thresholds.of(request.product, request.channel)
        self._weight = sampling_of(request.channel, request.probe, options.source.sampled_by_clients).weight

    def rows(self) -> Iterator[ProbeRow]:
        """The rows, in no particular order."""
        latest = self._latest_version()
        if latest is None:
            return iter(())
        if self._shape.aggregation is Aggregation.DISTRIBUTION:
            return self._distribution(latest)
        return self._scalar(latest)

    def _latest_version(self) -> int | None:
        if self._request.latest_version is not None:
            return self._request.latest_version
        statement = latest_version_statement(self._request, self._source)
        rows = self.runner.run(statement, self._tick("finding_version", VERSION_PERCENT))
        return next((row["version"] for row in rows), None)

    def _distribution(self, latest: int) -> Iterator[ProbeRow]:
        statement = probe_statement("distribution", self._request, self._source, latest)
        sums = self.runner.run(statement, self._tick("aggregating", FIRST_PERCENT))
        table = DistributionTable(sums, self._shape, self._weight)
        self._tick("statistics", STATISTICS_PERCENT)(0)
        return table.rows(self._request.metric_type, self._minimum.row_users)

    def _scalar(self, latest: int) -> Iterator[ProbeRow]:
        statement = probe_statement("scalar_range", self._request, self._source, latest)
        ranges = self.runner.run(statement, self._tick("finding_range", FIRST_PERCENT))
        known = ScalarRange(ranges, self._weight)
        if known.empty:
            return iter(())
        bounds = [float(bucket) for bucket in known.buckets]
        statement = probe_statement("scalar_counts", self._request, self._source, latest, bounds)
        counts = self.runner.run(statement, self._tick("aggregating", SECOND_PERCENT))
        table = ScalarTable(counts, known, self._weight)
        self._tick("statistics", STATISTICS_PERCENT)(0)
        return table.rows(self._request.metric_type, self._minimum.row_users)

    def _tick(self, stage: str, percent: int) -> Tick:
        """Reports a stage; the bytes are those of the statements before it and of this one."""
        return lambda read: self._progress(stage, percent, self.runner.bytes_processed + read)


def _identity(row: ProbeRow) -> tuple[int, str, str, str, str]:
    return (row.version, row.ping_type, row.os, row.app_build_id, row.client_agg_type)
