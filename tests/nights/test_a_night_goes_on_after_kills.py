"""Builders killed at any moment of a night: every probe is built once, and the warehouse runs no statement twice.

SOAK_ROUNDS says how many nights there are.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from google.cloud import bigquery

from tests.support.builder_process import BuilderProcess
from tests.support.googlesql import PROBES
from tests.support.nights import request_night
from tests.support.ping_makers import RUN_DATE, random_pings
from tests.support.ping_warehouse import write
from tests.support.servers import Connection, eventually, rounds
from usage_service.shared.bigquery.jobs import make_client
from warehouse.sample.pings import PROJECT
from warehouse.serving import served

ROUNDS = rounds(2)
# Some of each family in one job: that all types have their rows is tested of the jobs themselves.
TYPES = ("boolean", "counter", "quantity", "labeled_counter", "timing_distribution", "custom_distribution")
LONGEST_LIFE_SECONDS = 3.0
DEFINITION = {"histogram_type": "exponential", "range_min": 1, "range_max": 90, "bucket_count": 12}
ANEW = "UPDATE builds SET finished_at = finished_at - interval '60 days' WHERE finished_at IS NOT NULL"


@pytest.fixture(scope="module")
def warehouse_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("kills") / "pings.duckdb"
    write(path, random_pings(5, 40, "nightly"))
    with served(path) as address:
        yield address


@contextmanager
def killed_at_the_end(builders: Sequence[BuilderProcess]) -> Iterator[None]:
    try:
        yield
    finally:
        for builder in builders:
            builder.signal(signal.SIGKILL)


async def rows_of_all(database: Connection) -> set[tuple[Any, ...]]:
    rows = await database.fetch(
        "SELECT probe, version, ping_type, os, build_id, metric_key, client_agg_type, total_users, histogram::text"
        " FROM probe_rows"
    )
    return set(map(tuple, rows))


async def jobs_of(database: Connection, client: bigquery.Client, night: UUID) -> list[str]:
    """Return the warehouse's jobs of a night. An id ends with a number where the statement was run before."""
    shared = await database.fetch("SELECT job_id FROM shared_jobs WHERE night_id = $1", night)
    ours = {f"build-{row['job_id'].hex}" for row in shared}
    return [job.job_id for job in client.list_jobs() if job.job_id[:38] in ours]


async def test_every_probe_once_and_no_statement_twice(
    own_database_url: str, own_database: Connection, warehouse_url: str, tmp_path: Path
) -> None:
    types = {PROBES[metric_type]: metric_type for metric_type in TYPES}
    await own_database.executemany(
        "INSERT INTO catalogue (product, probe, metric_type, pings, definition)"
        " VALUES ('fog', $1, $2, '{metrics,baseline}', $3)",
        [(*named, DEFINITION) for named in types.items()],
    )
    environ = {
        "DATABASE_URL": own_database_url,
        "PROBE_BUILDER_WAREHOUSE_URL": warehouse_url,
        "PROBE_BUILDER_PINGS_PROJECT": PROJECT,
        "PROBE_BUILDER_MINIMUMS": "*=0/0",
        "PROBE_BUILDER_LEASE_SECONDS": "1.5",
        "PROBE_BUILDER_POLL_SECONDS": "0.3",
        "PROBE_BUILDER_RETRY_SECONDS": "0.05",
    }
    builders = [BuilderProcess(f"builder-{number}", tmp_path, environ, "builder") for number in range(2)]
    client = make_client("moz-fx-data-shared-prod", warehouse_url, "US")
    noon = datetime.combine(RUN_DATE, time(12), UTC)
    await own_database.execute("SELECT set_config('usage.now', $1, false)", noon.isoformat())
    expected = set[tuple[Any, ...]]()
    with closing(client), killed_at_the_end(builders):
        for number in range(ROUNDS):
            await own_database.execute(ANEW)
            night = await request_night(own_database, list(types))
            await _over_despite_kills(own_database, night, builders, kills=bool(number))
            failed = await own_database.fetch("SELECT probe, error FROM builds WHERE state = 'failed'")
            assert failed == []
            ended = await own_database.fetchrow("SELECT * FROM night_totals WHERE night_id = $1", night)
            assert ended is not None
            assert ended["built"] + ended["without_data"] == len(types)
            jobs = await jobs_of(own_database, client, night)
            assert len(jobs) >= ended["jobs"]
            assert all(len(job.split("-")) == 4 for job in jobs), "one was run again"
            expected = expected or await rows_of_all(own_database)
            assert await rows_of_all(own_database) == expected
        assert len(expected) > 100
        assert await own_database.fetchval(ENDED_TWICE) == 0


async def _over_despite_kills(
    database: Connection, night: UUID, builders: list[BuilderProcess], *, kills: bool
) -> None:
    """Keep the builders up until the night is over; kill one after the other at random moments of it."""

    async def over() -> bool:
        for builder in builders:
            builder.spawn()
        return bool(await database.fetchval("SELECT state = 'over' FROM nights WHERE night_id = $1", night))

    async def begun() -> bool:
        await over()
        return bool(await database.fetchval("SELECT attempt > 0 FROM nights WHERE night_id = $1", night))

    await eventually(begun, "the night is planned", 60)
    if kills:
        for builder in random.choices(builders, k=3):
            with suppress(AssertionError):
                await eventually(over, "it is over", random.uniform(0, LONGEST_LIFE_SECONDS))
            builder.signal(signal.SIGKILL)
    await eventually(over, "the night is over", 120)


ENDED_TWICE = """
SELECT count(*) FROM (
    SELECT FROM event_log WHERE type IN ('build_succeeded', 'build_found_no_data')
    GROUP BY data ->> 'build_id' HAVING count(*) > 1
) twice
"""
