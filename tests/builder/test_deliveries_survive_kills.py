"""Builders are killed at any moment: the sink has every row of PostgreSQL once, and none that is older.

SOAK_ROUNDS says how many kills there are.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from google.cloud import bigquery

from builder.sinks.glam_tables import GlamTables
from tests.support.builder_process import ROWS, BuilderProcess
from tests.support.builders import put_in_catalogue, request
from tests.support.ping_warehouse import write
from tests.support.servers import Connection, eventually, rounds
from tests.support.sinks import BEFORE, SINK
from usage_service.shared.bigquery.jobs import JobOptions, make_client
from warehouse.serving import served

ROUNDS = rounds(1)
BUILDERS, PROBES = 2, [f"probe_{number}" for number in range(4)]
LATEST_STRIKE_SECONDS = 1.5
PATIENCE = 60.0  # seconds, on the busiest machine
DELIVERED = """
SELECT bool_and(state = 'succeeded') AND (SELECT bool_and(waiting = 0) AND count(*) = 1 FROM sink_status) FROM builds
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    write(tmp_path / "pings.duckdb", ())
    with served(tmp_path / "pings.duckdb") as address:
        yield address


@pytest.fixture
def client(address: str) -> Iterator[bigquery.Client]:
    with closing(make_client("local-project", address, "US")) as client:
        GlamTables(client, SINK, JobOptions()).create_missing()
        yield client


@pytest.fixture
async def builders(
    database: Connection, database_url: str, address: str, tmp_path: Path
) -> AsyncIterator[list[BuilderProcess]]:
    """Return builders that are not started yet."""
    await put_in_catalogue(database, *PROBES)
    environ = {
        "DATABASE_URL": database_url,
        "PROBE_BUILDER_WAREHOUSE_URL": address,
        "PROBE_BUILDER_SINK_DATASET": SINK,
        "PROBE_BUILDER_SINK_SECONDS": "0.1",
        "PROBE_BUILDER_LEASE_SECONDS": "1",
        "PROBE_BUILDER_POLL_SECONDS": "0.1",
        "PROBE_BUILDER_RETRY_SECONDS": "0.05",
        "GOOGLE_CLOUD_PROJECT": "local-project",
    }
    processes = [BuilderProcess(f"builder-{number}", tmp_path, environ) for number in range(BUILDERS)]
    yield processes
    for process in processes:
        process.signal(signal.SIGKILL)


@pytest.mark.timeout(120 + 60 * ROUNDS)
async def test_the_sink_is_as_postgresql_after_each_kill(
    database: Connection, client: bigquery.Client, builders: list[BuilderProcess]
) -> None:
    async def is_delivered() -> bool:
        return bool(await database.fetchval(DELIVERED))

    for _ in range(ROUNDS):
        for builder in builders:
            builder.spawn()
        await database.execute(BEFORE)
        for probe in PROBES:
            await request(database, probe)
        await asyncio.sleep(random.uniform(0, LATEST_STRIKE_SECONDS))
        for builder in random.sample(builders, random.randint(1, BUILDERS)):
            builder.signal(signal.SIGKILL)
            builder.spawn()
        await eventually(is_delivered, "all rows are in the sink", PATIENCE)
        stored = await database.fetch("SELECT probe, version, total_users FROM probe_rows")
        assert len(stored) == len(PROBES) * ROWS
        assert sorted(map(tuple, stored)) == await asyncio.to_thread(read, client)
        assert set((await asyncio.to_thread(jobs, client)).values()) == {1}


def jobs(client: bigquery.Client) -> Counter[str]:
    """Return how many jobs that ended well each batch has, by batch and kind."""
    done = (job for job in client.list_jobs() if job.state == "DONE" and not job.error_result)
    return Counter("-".join(job.job_id.split("-")[1:3]) for job in done if job.job_id.startswith("deliver-"))


def read(client: bigquery.Client) -> list[tuple[str, int, int]]:
    """Return what each row of the sink is about, and its users."""
    table = GlamTables(client, SINK, JobOptions()).aggregates("fog", "nightly")
    return sorted((row["metric"], row["version"], int(row["total_users"])) for row in client.list_rows(table))
