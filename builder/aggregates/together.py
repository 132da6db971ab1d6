"""Probes that are aggregated together: those that are read alike in one job; one that breaks it is found by halving."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID, uuid5

from builder.aggregates.probe import BuildRequest, BuiltTogether
from builder.aggregates.source import Reading, SourceOptions
from builder.errors import PermanentBuildError

# BigQuery takes statements of 1 MB (https://cloud.google.com/bigquery/quotas#query_jobs), of which 200 probes need a
# tenth. What bounds them is a worker that puts the cells of all in order, and the columns of all in one grouping. Each
# of 50 bears a fiftieth of the common columns: with more there is little left to save.
MOST_PROBES = 50

AggregateTogether = Callable[[UUID, Sequence[BuildRequest]], BuiltTogether]
"""Aggregates probes that are read alike under the name of a job; blocks."""


class Together(NamedTuple):
    """Probes that were read in one job, and what came of each, to be iterated before the next job is asked for."""

    requests: Sequence[BuildRequest]
    built: BuiltTogether


def read_alike(
    requests: Iterable[BuildRequest], options: SourceOptions, most: int = MOST_PROBES
) -> list[list[BuildRequest]]:
    """Return the requests in groups of at most `most` that one statement can read, in the order of the first of each.

    One of a type that is never built is alone.
    """
    groups: dict[Reading | UUID, list[list[BuildRequest]]] = {}
    for request in requests:
        alike = groups.setdefault(_reading(request, options), [[]])
        if len(alike[-1]) == most:
            alike.append([])
        alike[-1].append(request)
    return [group for alike in groups.values() for group in alike]


def _reading(request: BuildRequest, options: SourceOptions) -> Reading | UUID:
    try:
        return Reading.of(request, options)
    except PermanentBuildError:  # told when it is aggregated
        return request.build_id


def aggregate_together(aggregate: AggregateTogether, job: UUID, requests: Sequence[BuildRequest]) -> Iterator[Together]:
    """Aggregate probes that are read alike in as few jobs as their faults allow.

    What cannot be aggregated is halved, each half under a name made from the job's, until the probe at fault is alone.
    """
    try:
        yield Together(requests, aggregate(job, requests))
    except PermanentBuildError as error:
        if len(requests) == 1:
            yield Together(requests, BuiltTogether(0, [], iter([error])))
            return
        middle = len(requests) // 2
        yield from aggregate_together(aggregate, uuid5(job, "first half"), requests[:middle])
        yield from aggregate_together(aggregate, uuid5(job, "second half"), requests[middle:])
