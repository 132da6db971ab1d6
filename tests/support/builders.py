"""Builders within the test's process, whose rows the test makes up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec

from builder.aggregates.probe import BuildRequest, BuiltProbe, ProbeRow, Progress
from builder.builds import Aggregate
from builder.nights.work import Readings
from builder.orphaned_jobs import StopJobs, stop_no_jobs
from builder.running import CONNECTIONS_A_BUILD, OTHER_CONNECTIONS, Builder, Warehouse
from builder.settings import BuilderSettings
from builder.sinks.delivering import Sink
from tests.support.servers import Connection, eventually
from usage_service.shared.bigquery.control import Control
from usage_service.shared.postgres import open_pool
from usage_service.shared.tasks import Tasks

PROBE = "gc_ms"
ROW = ProbeRow(
    version=140, ping_type="*", os="*", app_build_id="*", metric_type="timing_distribution", metric_key="",
    client_agg_type="summed_histogram", total_users=900, total_sample=1800, histogram='{"0": 0.5, "10": 0.5}',
    percentiles='{"50": 0}', non_norm_histogram="{}", non_norm_percentiles="{}", build_date=None,
)  # fmt: skip
# Builds that did not end well and once, with $1 rows of one attempt and nothing said by an attempt that was over.
WRONG_BUILDS = """
WITH told AS (
    SELECT (data ->> 'build_id')::uuid AS build_id, position, type, (data ->> 'attempt')::int AS attempt,
           lag((data ->> 'attempt')::int) OVER of_build AS before, lag(type) OVER of_build AS type_before
    FROM event_log WHERE type LIKE 'build%' WINDOW of_build AS (PARTITION BY data ->> 'build_id' ORDER BY position)
), stories AS (
    SELECT build_id, count(*) FILTER (WHERE type = 'build_requested') AS requests,
           count(*) FILTER (WHERE type = 'build_started') AS starts,
           count(*) FILTER (WHERE type IN ('build_succeeded', 'build_found_no_data')) AS ends,
           bool_or(attempt < before OR type_before IN ('build_succeeded', 'build_found_no_data')
                   OR (type = 'build_started') <> coalesce(attempt > coalesce(before, 0), false)) AS odd
    FROM told GROUP BY build_id
), stored AS (
    SELECT built_by, count(*) AS rows, count(DISTINCT total_users) AS numbers FROM probe_rows GROUP BY built_by
)
SELECT b.build_id, b.probe, b.state, b.attempt, b.error, s.*, r.*
FROM builds b JOIN stories s USING (build_id) LEFT JOIN stored r ON r.built_by = b.build_id
WHERE b.state <> CASE WHEN b.probe LIKE '%none' THEN 'no_data' ELSE 'succeeded' END
   OR s.requests <> 1 OR s.ends <> 1 OR s.starts <> b.attempt OR s.odd
   OR (coalesce(r.rows, 0), coalesce(r.numbers, 1)) <> (coalesce(b.rows, 0)::bigint, 1)
   OR b.rows <> $1
"""


def builds_a_row(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
    """Succeed at once, with one row."""
    progress("aggregating", 50, 1_000)
    return BuiltProbe([ROW], 2_000, ["a job"])


def endless(request: BuildRequest, progress: Progress, control: Control) -> BuiltProbe:
    """Report a step, and run until stopped."""
    progress("aggregating", 10, 1_000)
    while True:
        control.wait(20)


@asynccontextmanager
async def running_builder(
    database_url: str,
    aggregate: Aggregate = builds_a_row,
    *,
    name: str = "b1",
    stop_jobs: StopJobs = stop_no_jobs,
    readings: Readings | None = None,
    sink: Sink | None = None,
    **values: object,
) -> AsyncIterator[Builder]:
    """Run a builder that listens, with a poll a minute and leases of 15 s unless said otherwise; stop it at the end."""
    usual = BuilderSettings(database_url=database_url, poll_seconds=60, retry_seconds=0.01, grace_seconds=5)
    settings = msgspec.structs.replace(usual, **values)
    size = (settings.concurrency + settings.shared_jobs) * CONNECTIONS_A_BUILD + OTHER_CONNECTIONS
    async with open_pool(database_url, role="usage_builder", application=name, size=size) as pool:
        builder = Builder(pool, name, settings, Warehouse(aggregate, stop_jobs, readings, sink))
        async with Tasks(lambda: None) as tasks:
            builder.start(tasks)
            await eventually(lambda: _connected(builder), "the listener is connected")
            yield builder
            await builder.worker.stop()


async def _connected(builder: Builder) -> bool:
    return builder.listener.connected


async def put_in_catalogue(database: Connection, *probes: str) -> None:
    """Insert probes that can be built, without the events that register them."""
    await database.executemany(
        "INSERT INTO catalogue (product, probe, metric_type, pings) "
        "VALUES ('fog', $1, 'timing_distribution', '{metrics}')",
        [(probe,) for probe in probes],
    )


async def request(database: Connection, probe: str = PROBE) -> UUID:
    """Ask for a build of the nightly channel."""
    build_id: UUID = await database.fetchval("SELECT build_id FROM request_build('fog', 'nightly', $1, 'test')", probe)
    return build_id


async def until_state(database: Connection, *states: str, seconds: float = 20) -> None:
    """Wait until every build is in one of the states."""

    async def reached() -> bool:
        return bool(await database.fetchval("SELECT bool_and(state = ANY($1)) FROM builds", list(states)))

    await eventually(reached, f"all builds are {' or '.join(states)}", seconds)


async def until_stage(database: Connection, stage: str) -> None:
    """Wait until the one build has reported this stage."""

    async def reached() -> bool:
        return bool(await database.fetchval("SELECT bool_and(stage = $1) FROM builds", stage))

    await eventually(reached, f"the build is at {stage}")
