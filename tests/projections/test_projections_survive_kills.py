"""Whoever is killed or frozen while projections are folded, rebuilt and swapped: nothing is counted twice or left out.

SOAK_ROUNDS says how many times something is killed.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from tests.support.projection_process import ProjectionProcess
from tests.support.servers import Connection, at_random_within, connected, eventually, rounds
from tests.support.sessions import waiting
from tests.support.traffic import PROJECTIONS, append_traffic, assert_as_the_reference, ignore, leftovers
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.postgres_cluster import PostgresCluster, wait_until
from usage_service.projections.rebuilding import rebuild, verify
from usage_service.projections.runner import Runners
from usage_service.shared.postgres import UNAVAILABLE, Pool, open_pool

ROUNDS = rounds(1)
DURABLE = {"fsync": "on", "recovery_init_sync_method": "syncfs", "shared_buffers": "32MB", "max_connections": "50"}
LATEST_STRIKE_SECONDS = 0.2
VICTIMS = ["postgres", "postgres", "fold", "rebuild", "rebuild", "all"]
SWAP_IS_HELD = """
CREATE FUNCTION hold_swap() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '60000', true), pg_advisory_xact_lock(4711);
    RETURN NEW;
END $$;
CREATE TRIGGER hold_swap BEFORE UPDATE OF stage ON projections FOR EACH ROW EXECUTE FUNCTION hold_swap();
"""
FOLDED = "SELECT bool_and(behind = 0) FROM projection_status WHERE stage = 'live'"
NOBODY_REBUILDS = """
SELECT NOT EXISTS (SELECT FROM pg_stat_activity
                   WHERE datname = current_database() AND application_name = 'usage-service maintenance')
"""
LIVE_TABLES = "SELECT array_agg(t) FROM projections, unnest(tables) t WHERE stage = 'live'"
GENERATIONS = "SELECT array_agg(generation ORDER BY name) FROM projections WHERE stage = 'live'"


class Stack:
    """A database that survives crashes, a process that folds and one that rebuilds."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path) -> None:
        self.postgres = postgres
        self.cluster = PostgresCluster(directory)
        self.processes = {work: ProjectionProcess(work, postgres.url, directory) for work in ("fold", "rebuild")}

    def strike(self, victim: str) -> None:
        """Kill PostgreSQL, one of the processes, or all of them."""
        if victim in ("postgres", "all"):
            self.cluster.kill()
            assert wait_until(lambda: self.postgres.pid is None, 10)
        for work, process in self.processes.items():
            if victim in (work, "all"):
                process.signal(signal.SIGKILL)

    def keep_up(self) -> None:
        """Start again whatever is dead."""
        self.postgres.start()
        for process in self.processes.values():
            process.spawn()

    async def ask(self, question: str) -> object:
        """Return the one value that answers it; None while the database is away."""
        with suppress(*UNAVAILABLE):
            async with connected(self.postgres.url) as connection:
                return await connection.fetchval(question)
        return None


@contextmanager
def running_stack(directory: Path) -> Iterator[Stack]:
    with EmbeddedPostgres(directory, options=DURABLE) as postgres:
        stack = Stack(postgres, directory)
        try:
            yield stack
        finally:
            for process in stack.processes.values():
                process.signal(signal.SIGKILL)


@pytest.fixture
def stack(own_cluster: Path) -> Iterator[Stack]:
    with running_stack(own_cluster) as stack:
        yield stack


async def holds(connection: Connection, condition: str) -> bool:
    return bool(await connection.fetchval(condition))


async def in_the_swap(connection: Connection) -> bool:
    return await waiting(connection, "advisory", statement="%swap_projection%") > 0


async def in_a_fold(connection: Connection) -> bool:
    return await waiting(connection, table="popularity_views") > 0


@pytest.mark.timeout(60 + 10 * ROUNDS)
async def test_kills_at_random_change_nothing(stack: Stack) -> None:
    for _ in range(ROUNDS):
        await work_for_a_while(stack)
        await strike_at_random(stack)
        stack.keep_up()
        await eventually(partial(says, stack, FOLDED), "all is folded", 60)
        async with connected(stack.postgres.url) as connection:
            await assert_as_the_reference(connection)
    stack.strike("rebuild")
    # The statement that it was at goes on without it, and may begin to fill one that was gone on with already.
    await eventually(partial(says, stack, NOBODY_REBUILDS), "what it was at is over", 60)
    async with connected(stack.postgres.url) as connection:
        for projection in PROJECTIONS:  # what was begun is gone on with
            await rebuild(connection, projection, {}, ignore)
            assert (await verify(connection, projection, ignore)).equal
        await assert_as_the_reference(connection)
        assert not await leftovers(connection)


async def strike_at_random(stack: Stack) -> None:
    """Kill one at a moment that has nothing to do with what it does."""
    await at_random_within(LATEST_STRIKE_SECONDS, lambda: stack.strike(random.choice(VICTIMS)))


async def says(stack: Stack, question: str) -> bool:
    return bool(await stack.ask(question))


async def work_for_a_while(stack: Stack) -> None:
    """Wait until something was rebuilt, with new events just come."""
    stack.keep_up()
    before = await stack.ask(GENERATIONS)

    async def another() -> bool:
        stack.keep_up()
        return await stack.ask(GENERATIONS) not in (None, before)

    await eventually(another, "something is rebuilt", 60)
    async with connected(stack.postgres.url) as connection:
        await append_traffic(connection, random.randint(1, 300))


@pytest.mark.timeout(240)
@pytest.mark.parametrize("victim", ["postgres", "rebuild"])
async def test_a_kill_within_the_swap(stack: Stack, victim: str) -> None:
    stack.postgres.start()
    async with connected(stack.postgres.url) as connection:
        await append_traffic(connection, 500)
        await connection.execute(SWAP_IS_HELD)
        await connection.execute("SELECT pg_advisory_lock(4711)")
        before = await stack.ask(GENERATIONS)
        stack.keep_up()
        await eventually(partial(in_the_swap, connection), "it is being swapped", 30)
        stack.strike(victim)
        with suppress(*UNAVAILABLE):
            await connection.execute("SELECT pg_advisory_unlock(4711)")

    async def swapped() -> bool:
        stack.keep_up()  # again and again: who sees the database away may end only now
        return await stack.ask(GENERATIONS) not in (None, before)

    await eventually(swapped, "it was gone on with", 60)
    await eventually(partial(says, stack, FOLDED), "all is folded", 60)
    async with connected(stack.postgres.url) as connection:
        await assert_as_the_reference(connection)


@asynccontextmanager
async def folding(url: str) -> AsyncIterator[Pool]:
    """Run the runners of another server."""
    async with open_pool(url, role="usage_server", application="tests", size=6) as pool:
        running = asyncio.create_task(Runners(pool, lambda: None).run())
        try:
            yield pool
        finally:
            running.cancel()
            await asyncio.wait([running])


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_another_server_goes_on(
    own_database: Connection, own_database_url: str, tmp_path: Path, blow: signal.Signals
) -> None:
    """A batch is one statement: it ends and lets go by itself, whatever has become of who asked for it."""
    await append_traffic(own_database, 200)
    process = ProjectionProcess("fold", own_database_url, tmp_path)
    try:
        process.spawn()
        await eventually(partial(holds, own_database, FOLDED), "it runs", 60)
        async with connected(own_database_url) as holder, holder.transaction():
            await holder.execute("LOCK TABLE popularity_views IN EXCLUSIVE MODE")
            await append_traffic(own_database, 200)
            await eventually(partial(in_a_fold, own_database), "it folds", 10)  # PostgreSQL ends us after 15 s
            process.signal(blow)
        async with folding(own_database_url):
            await eventually(partial(holds, own_database, FOLDED), "what was under way is folded", 10)
            await append_traffic(own_database, 200)
            await eventually(partial(holds, own_database, FOLDED), "what came later is folded", 10)
    finally:
        process.signal(signal.SIGKILL)
    await assert_as_the_reference(own_database)


async def test_readers_do_not_wait_for_a_frozen_rebuild(
    own_database: Connection, own_database_url: str, tmp_path: Path
) -> None:
    """Nor is the swap undone: it is one statement as well."""
    await append_traffic(own_database, 200)
    await own_database.execute(SWAP_IS_HELD)
    before = await own_database.fetchval(GENERATIONS)
    process = ProjectionProcess("rebuild", own_database_url, tmp_path)
    try:
        async with connected(own_database_url) as holder:
            await holder.execute("SELECT pg_advisory_lock(4711)")
            process.spawn()
            await eventually(partial(in_the_swap, own_database), "it is being swapped", 30)
            process.signal(signal.SIGSTOP)
        async with asyncio.timeout(20):
            for table in await own_database.fetchval(LIVE_TABLES):  # any of them may be the one that is swapped
                await own_database.fetchval("SELECT number FROM hash_table('public', $1)", table)

        async def swapped() -> bool:
            return bool(await own_database.fetchval(GENERATIONS) != before)

        await eventually(swapped, "the swap has ended")  # whoever read its tables before had not to wait for it
    finally:
        process.signal(signal.SIGKILL)
