"""The model of a build, and the query of the same facts in the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

STORE = """
INSERT INTO probe_rows (product, channel, probe, built_by, version, ping_type, os, build_id, metric_type, metric_key,
                        client_agg_type, total_users, total_sample, histogram, percentiles, non_norm_histogram,
                        non_norm_percentiles)
SELECT product, channel, probe, build_id, 140, '*', '*', '*', metric_type, '', 'x', $2, 1, '{}', '{}', '{}', '{}'
FROM builds WHERE build_id = $1
"""
BUILDS = """
SELECT build_id, probe, prefetched, not_before, state, attempt, max_attempts, lease_until, bytes, finished_at
FROM builds
"""
EVENTS = """
SELECT type, probe, (data ->> 'attempt')::integer FROM event_log WHERE type LIKE 'build%' ORDER BY position
"""


@dataclass
class Build:
    """The state of a build in the model."""

    build_id: UUID
    probe: str
    prefetched: bool
    not_before: datetime
    state: str = "queued"
    attempt: int = 0
    max_attempts: int = 5
    lease_until: datetime | None = None
    bytes: int | None = None
    finished_at: datetime | None = None

    def key(self) -> tuple[bool, datetime]:
        """Return the sort key of the queue: the build that is claimed first has the least."""
        return self.prefetched, self.not_before
