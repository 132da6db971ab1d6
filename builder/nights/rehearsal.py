"""A night without a queue: planned by dry runs as any other, its jobs done one after the other, nothing stored."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from uuid import uuid4

from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, aggregate_probes, estimate_probes
from builder.aggregates.probe import BuildRequest, BuiltTogether
from builder.aggregates.together import read_alike
from builder.nights.planning import Candidate, Limits, plan_night
from usage_service.shared.bigquery.errors import PermanentWorkError


def rehearse(
    client: bigquery.Client,
    requests: Iterable[BuildRequest],
    options: AggregateOptions,
    together_bytes: int = sys.maxsize,
) -> Iterator[tuple[Sequence[BuildRequest], BuiltTogether]]:
    """Plan the night of these probes and do its jobs; yield the probes of each and what came of them.

    `together_bytes`: those that a job of several probes may read.
    What a job yields is to be iterated before the next one is asked for. One that fails is done in halves, as in the
    queue: what it takes shows only when it runs. Blocks.
    """
    groups = [[Candidate(request, None) for request in group] for group in read_alike(requests, options.source)]
    limits = Limits(sys.maxsize, together_bytes, sys.maxsize)
    plan = plan_night(groups, lambda probes: estimate_probes(client, probes, options), limits, lambda _: None)
    for job in plan.jobs:
        yield from _done(client, [candidate.request for candidate in job.candidates], options)


def _done(
    client: bigquery.Client, probes: Sequence[BuildRequest], options: AggregateOptions
) -> Iterator[tuple[Sequence[BuildRequest], BuiltTogether]]:
    try:
        together = aggregate_probes(client, uuid4(), probes, options, lambda *_: None)
    except PermanentWorkError as error:
        if len(probes) > 1:
            middle = len(probes) // 2
            yield from _done(client, probes[:middle], options)
            yield from _done(client, probes[middle:], options)
            return
        together = BuiltTogether(0, [], iter([error]))
    yield probes, together
