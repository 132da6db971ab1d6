"""The jobs of a cancelled build whose builder is dead are stopped by the next builder that polls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from google.cloud import bigquery

from builder.queue import BuildQueue
from tests.builder.test_build_jobs_are_adopted import ENDLESS
from tests.support.builders import PROBE, builds_a_row, put_in_catalogue, request, running_builder
from tests.support.ping_makers import random_pings
from tests.support.ping_warehouse import warehouse
from tests.support.servers import Connection, eventually
from usage_service.shared.bigquery.errors import TransientWorkError
from usage_service.shared.bigquery.jobs import JobOptions, stop_jobs
from usage_service.shared.postgres import open_pool

LEASE = timedelta(seconds=15)
ORPHANED = "SELECT stop_jobs_at IS NOT NULL FROM builds"


@pytest.fixture(scope="module")
def bigquery_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[bigquery.Client]:
    with warehouse(tmp_path_factory.mktemp("orphaned") / "pings.duckdb", random_pings(1, 300)) as client:
        yield client


@pytest.fixture
async def queue(database: Connection, database_url: str) -> AsyncIterator[BuildQueue]:
    """Return the queue of a builder that dies, with one probe in the catalogue."""
    await put_in_catalogue(database, PROBE)
    async with open_pool(database_url, role="usage_builder", application="dead", size=1) as pool:
        yield BuildQueue(pool, "dead", LEASE)


async def cancelled_after_its_builder_died(database: Connection, queue: BuildQueue) -> UUID:
    build_id = await request(database)
    [claim] = await queue.claim()
    assert claim.build_id == build_id
    assert await database.fetchval("SELECT cancel_build($1, 'me')", build_id) == "running"
    return build_id


async def no_orphans(database: Connection) -> bool:
    return not await database.fetchval(ORPHANED)


async def let_the_lease_pass(database: Connection) -> None:
    await database.execute("UPDATE builds SET stop_jobs_at = stop_jobs_at - $1::interval", LEASE)


def states(client: bigquery.Client) -> dict[str, str]:
    return {job.job_id: job.state for job in client.list_jobs()}


async def test_the_next_builder_stops_the_job_of_a_dead_one(
    database: Connection, database_url: str, queue: BuildQueue, bigquery_client: bigquery.Client
) -> None:
    build_id, another = await cancelled_after_its_builder_died(database, queue), uuid4()
    orphaned, other = (f"build-{of.hex}-endless-0123456789ab" for of in (build_id, another))
    for job_id in (orphaned, other):
        await asyncio.to_thread(bigquery_client.query, ENDLESS.sql, job_id=job_id, job_retry=None)
    stop = partial(stop_jobs, bigquery_client, options=JobOptions())
    async with running_builder(database_url, poll_seconds=0.05, stop_jobs=stop):
        assert await queue.claim_orphaned_jobs() == []  # its builder may still live
        assert not await no_orphans(database)
        await let_the_lease_pass(database)
        await eventually(partial(no_orphans, database), "the jobs are stopped")
    await eventually(partial(is_over, bigquery_client, orphaned), "the job is over")
    found = await asyncio.to_thread(states, bigquery_client)
    assert found[other] != "DONE"  # another build's goes on
    await asyncio.to_thread(bigquery_client.cancel_job, other)


async def is_over(client: bigquery.Client, job_id: str) -> bool:
    return (await asyncio.to_thread(states, client))[job_id] == "DONE"


async def test_jobs_that_could_not_be_stopped_are_tried_again_after_a_lease(
    database: Connection, database_url: str, queue: BuildQueue
) -> None:
    build_id, asked = await cancelled_after_its_builder_died(database, queue), list[UUID]()

    def refuses_once(of_build: UUID) -> Sequence[str]:
        asked.append(of_build)
        if len(asked) == 1:
            raise TransientWorkError("backendError", "made up")
        return ()

    async def was_asked() -> bool:
        return bool(asked)

    await let_the_lease_pass(database)
    async with running_builder(database_url, poll_seconds=0.05, stop_jobs=refuses_once):
        await eventually(was_asked, "the warehouse was asked")
        assert await queue.claim_orphaned_jobs() == []
        assert not await no_orphans(database)
        await let_the_lease_pass(database)
        await eventually(partial(no_orphans, database), "it is tried again")
    assert asked == [build_id, build_id]


async def test_a_build_that_waits_for_its_next_attempt_has_a_job_to_stop_at_once(
    database: Connection, queue: BuildQueue
) -> None:
    build_id = await request(database)
    [claim] = await queue.claim()
    await queue.fail(claim, "backendError", "made up", timedelta(hours=1))
    await database.execute("SELECT cancel_build($1, 'me')", build_id)
    assert await queue.claim_orphaned_jobs() == [build_id]
    assert await queue.claim_orphaned_jobs() == []  # for a lease it is that builder's to stop


async def test_there_is_no_job_of_a_build_that_never_began_nor_of_one_long_ago(
    database: Connection, queue: BuildQueue
) -> None:
    build_id = await request(database)
    await database.execute("SELECT cancel_build($1, 'me')", build_id)
    assert await no_orphans(database)
    await cancelled_after_its_builder_died(database, queue)
    await let_the_lease_pass(database)
    await database.execute("UPDATE builds SET finished_at = finished_at - interval '6 hours'")
    assert await queue.claim_orphaned_jobs() == []


async def test_a_build_that_ends_leaves_no_orphaned_jobs(
    database: Connection, database_url: str, queue: BuildQueue
) -> None:
    await request(database)
    async with running_builder(database_url, builds_a_row):
        await eventually(partial(has_rows, database), "it is built")
    assert await no_orphans(database)


async def has_rows(database: Connection) -> bool:
    return bool(await database.fetchval("SELECT state = 'succeeded' FROM builds"))
