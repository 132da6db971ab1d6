"""Built rows in the form of the reference."""

from collections.abc import Iterable
from uuid import uuid4

from google.cloud import bigquery

from builder.aggregates.aggregating import AggregateOptions, BuildRequest, aggregate_probe
from builder.aggregates.definition import Definition
from builder.aggregates.probe import ProbeRow
from builder.aggregates.source import SourceOptions
from builder.aggregates.thresholds import Minimum, Thresholds
from tests.support.glam_today_reference import SAMPLED_IDS, Question, Row, Rows
from tests.support.googlesql import PROBES


def built_rows(client: bigquery.Client, question: Question) -> Rows:
    """Return the rows that a build makes of the warehouse's pings."""
    probe = PROBES[question.metric_type]
    request = BuildRequest(
        uuid4(),
        question.product,
        question.channel,
        probe,
        question.metric_type,
        ("metrics", "baseline"),
        question.run_date,
        question.latest_version,
        definition_of(question),
    )
    options = SourceOptions(
        thresholds=Thresholds({}, Minimum(question.more_clients_than, question.more_users_than)),
        sampled_by_clients=frozenset([probe] if question.sampled_by_clients else []),
        sampled_channels={question.channel: SAMPLED_IDS} if question.sampled else {},
    )
    return as_rows(aggregate_probe(client, request, AggregateOptions(options), lambda *_: None).rows)


def definition_of(question: Question) -> Definition:
    """Return what the catalogue would say of the probe; which labels it declares makes no difference."""
    kind, smallest, largest, count = question.buckets or (None, None, None, None)
    return Definition(kind, smallest, largest, count, ("declared",) if question.declared_labels else ())


def as_rows(built: Iterable[ProbeRow]) -> Rows:
    """Return the rows by their identity; fail when two rows have the same."""
    rows: Rows = {}
    for row in built:
        identity = (row.version, row.ping_type, row.os, row.app_build_id, row.metric_key, row.client_agg_type)
        assert identity not in rows
        rows[identity] = Row(
            row.metric_type,
            row.total_users,
            row.total_sample,
            row.histogram,
            row.percentiles,
            row.non_norm_histogram,
            row.non_norm_percentiles,
        )
    return rows
