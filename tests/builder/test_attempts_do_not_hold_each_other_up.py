"""An attempt that freezes at any point blocks neither the next attempt nor the log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from uuid import UUID

import asyncpg
import pytest

from builder.fencing import LeaseLostError
from builder.queue import BuildQueue, Claim, Stored
from tests.support.builders import ROW, put_in_catalogue, request
from tests.support.proxy import proxied
from tests.support.servers import Connection, eventually
from tests.support.sessions import waiting
from usage_service.shared.postgres import UNAVAILABLE, connect, open_pool

SECONDS = 3.0  # less than any time-out


@pytest.fixture(autouse=True)
async def build_id(database: Connection) -> UUID:
    await put_in_catalogue(database, "gc_ms", "slow_ms", "other_ms")
    return await request(database)


@asynccontextmanager
async def queue_at(url: str) -> AsyncIterator[BuildQueue]:
    async with open_pool(url, role="usage_builder", application="tests", size=4) as pool:
        yield BuildQueue(pool, "w1", timedelta(seconds=15))


@asynccontextmanager
async def another(url: str) -> AsyncIterator[Connection]:
    connection = await connect(url, application="tests")
    try:
        yield connection
    finally:
        connection.terminate()


async def claimed(queue: BuildQueue) -> Claim:
    [claim] = await queue.claim()
    assert claim is not None
    return claim


async def claimed_again(queue: BuildQueue, database: Connection) -> Claim:
    """Claim the build for the next attempt, after the lease was lost."""
    await database.execute("UPDATE builds SET lease_until = now() - interval '1 s' WHERE state = 'running'")
    assert await queue.expire_leases() == 1
    return await claimed(queue)


async def test_completed_twice_it_answers_the_same(database: Connection, database_url: str) -> None:
    async with queue_at(database_url) as queue:
        claim = await claimed(queue)
        assert await queue.complete(claim, [ROW], 10) == Stored(1)
        assert await queue.complete(claim, [ROW], 10) == Stored(1)
        assert await database.fetchval("SELECT sum(bytes)::int FROM warehouse_days") == 10


async def test_a_stale_attempt_is_told_so_even_when_its_rows_are_there(database: Connection, database_url: str) -> None:
    async with queue_at(database_url) as queue:
        stale = await claimed(queue)
        current = await claimed_again(queue, database)
        with pytest.raises(LeaseLostError):
            await queue.complete(stale, [ROW], 10)
        await queue.complete(current, [ROW], 10)
        with pytest.raises(LeaseLostError):
            await queue.complete(stale, [ROW], 10)


async def test_rows_that_are_there_twice_are_an_error(database: Connection, database_url: str) -> None:
    async with queue_at(database_url) as queue:
        claim = await claimed(queue)
        with pytest.raises(asyncpg.UniqueViolationError):
            await queue.complete(claim, [ROW, ROW], 10)
        assert await database.fetchval("SELECT state FROM builds") == "running"
        assert await queue.complete(claim, [ROW, ROW._replace(version=141)], 10) == Stored(2)


async def test_one_that_stands_still_while_it_stores_holds_up_no_other(
    database: Connection, database_url: str, build_id: UUID
) -> None:
    store = """
    INSERT INTO probe_rows (product, channel, probe, built_by, version, ping_type, os, build_id, metric_type,
                            metric_key, client_agg_type, total_users, total_sample, histogram, percentiles,
                            non_norm_histogram, non_norm_percentiles)
    SELECT 'fog', 'nightly', 'gc_ms', $1, 1, '*', '*', '*', 'x', '', 'x', 1, 1, '{}', '{}', '{}', '{}'
    """
    async with queue_at(database_url) as queue, another(database_url) as still:
        await claimed(queue)
        await still.execute("BEGIN")
        await still.execute(store, build_id)  # and then nothing
        current = await claimed_again(queue, database)
        async with asyncio.timeout(SECONDS):
            await queue.heartbeat(current, "aggregating", 50, 5)
            assert await queue.complete(current, [ROW], 10) == Stored(1)
            await still.execute("ROLLBACK")


async def test_nobody_waits_for_the_days_bytes_with_the_log_locked(database: Connection, database_url: str) -> None:
    """One transaction ends two attempts, and a completion comes in between, as it may during `expire_leases`."""
    for probe in ("slow_ms", "other_ms"):
        await request(database, probe)
    async with queue_at(database_url) as queue, another(database_url) as both:
        first, second, third = [await claimed(queue) for _ in range(3)]
        await queue.heartbeat(third, read=10)
        await both.execute("BEGIN")
        await both.execute("SELECT fail_build($1, $2, 'x', 'y')", *first.held)  # nothing read, and the log is locked
        completing = asyncio.create_task(queue.complete(second, [ROW], 10))
        await eventually(partial(waits, database, "%complete_build%"), "the other one waits")
        async with asyncio.timeout(SECONDS):
            await both.execute("SELECT fail_build($1, $2, 'x', 'y')", *third.held)
            await both.execute("COMMIT")
            assert await completing == Stored(1)
    assert await database.fetchval("SELECT sum(bytes)::int FROM warehouse_days") == 20


async def waits(database: Connection, statement: str) -> bool:
    return await waiting(database, statement=statement) > 0


async def test_a_builder_cut_off_while_it_completes_does_not_hold_the_log(
    database: Connection, database_url: str
) -> None:
    """The message that takes the log's lock commits, too; a lost answer is found when `complete` is called again."""
    async with proxied(database_url) as (proxy, url), queue_at(url) as queue, another(database_url) as holder:
        claim = await claimed(queue)
        await holder.execute("BEGIN; SELECT lock_event_log()")
        completing = asyncio.create_task(queue.complete(claim, [ROW], 10))
        await eventually(partial(waits, database, "%complete_build%"), "it waits for the log")
        proxy.swallow()
        await holder.execute("COMMIT")
        async with asyncio.timeout(SECONDS):
            await holder.execute("SELECT lock_event_log()")
        assert await database.fetchval("SELECT state FROM builds") == "succeeded"
        proxy.cut()
        with pytest.raises(UNAVAILABLE):
            await completing
        proxy.restore()
        assert await queue.complete(claim, [ROW], 10) == Stored(1)
