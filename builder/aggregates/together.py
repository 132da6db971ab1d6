"""Probes that one job can aggregate together: those that are read alike."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from builder.aggregates.probe import BuildRequest
from builder.aggregates.source import Reading, SourceOptions
from usage_service.shared.bigquery.errors import PermanentWorkError

# BigQuery takes statements of 1 MB (https://cloud.google.com/bigquery/quotas#query_jobs), of which 200 probes need a
# tenth. What bounds them is a worker that puts the cells of all in order, and the columns of all in one grouping. Each
# of 50 bears a fiftieth of the common columns: with more there is little left to save.
MOST_PROBES = 50


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
    except PermanentWorkError:  # told when it is aggregated
        return request.build_id
