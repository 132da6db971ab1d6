"""Built rows in the form of the reference."""

from collections.abc import Iterable

from builder.aggregates.probe import ProbeRow
from tests.support.reference_statistics import Row, Rows


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
