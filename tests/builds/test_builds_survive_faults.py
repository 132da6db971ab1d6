"""Faults of builders, connections and the database: every build ends once, with the rows of one attempt.

SOAK_ROUNDS says how many faults there are.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from builder.connections import LONGEST_WAIT_SECONDS
from builder.settings import BuilderSettings
from tests.support.builder_process import BYTES_A_STEP, ROWS, STEPS, BuilderProcess
from tests.support.builders import WRONG_BUILDS, put_in_catalogue, request
from tests.support.proxy import Proxy, proxied
from tests.support.servers import Connection, connected, eventually, rounds
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.postgres_cluster import PostgresCluster, wait_until
from usage_service.shared.postgres import UNAVAILABLE

ROUNDS = rounds(3)
BUILDERS, BUILDS_A_ROUND = 2, 5
LEASE_SECONDS, POLL_SECONDS = 1.5, 0.3
DURABLE = {"fsync": "on", "recovery_init_sync_method": "syncfs", "shared_buffers": "32MB", "max_connections": "40"}
LATEST_STRIKE_SECONDS = 0.3
PATIENCE = 60.0  # seconds, on the busiest machine
FAULTS = ["kill", "freeze", "cut", "swallow", "deaf", "postgres", "full", "stop", "none"]


class FaultyStack:
    """A database that survives crashes, and builders that each reach it by two proxies: one to ask, one to listen."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path) -> None:
        self.postgres = postgres
        self.cluster = PostgresCluster(directory)
        self.builders: list[BuilderProcess] = []
        self.ways: list[Proxy] = []
        self.ears: list[Proxy] = []

    async def add_builder(self, stack: AsyncExitStack, directory: Path) -> None:
        """Add a builder, not started yet."""
        way, url = await stack.enter_async_context(proxied(self.postgres.url))
        ear, listen_url = await stack.enter_async_context(proxied(self.postgres.url))
        environ = {
            "DATABASE_URL": url,
            "LISTEN_DATABASE_URL": listen_url,
            "PROBE_BUILDER_LEASE_SECONDS": str(LEASE_SECONDS),
            "PROBE_BUILDER_POLL_SECONDS": str(POLL_SECONDS),
            "PROBE_BUILDER_RETRY_SECONDS": "0.05",
            "PROBE_BUILDER_GRACE_SECONDS": "0.05",
        }
        self.ways.append(way)
        self.ears.append(ear)
        self.builders.append(BuilderProcess(f"builder-{len(self.builders)}", directory, environ))

    def keep_up(self) -> None:
        """Start again all processes that are dead, and restore the connections."""
        self.postgres.start()
        for proxy in (*self.ways, *self.ears):
            proxy.restore()
        for builder in self.builders:
            builder.signal(signal.SIGCONT)
            builder.spawn()

    async def strike(self, fault: str) -> None:
        """Do the fault to one of the builders, or to the database."""
        chosen = random.randrange(BUILDERS)
        builder, way, ear = self.builders[chosen], self.ways[chosen], self.ears[chosen]
        if fault in ("kill", "stop"):
            builder.signal(signal.SIGKILL if fault == "kill" else signal.SIGTERM)
        elif fault == "postgres":
            self.cluster.kill()
            assert wait_until(lambda: self.postgres.pid is None, 10)
        elif fault == "full":
            await self._fill()
        elif fault == "cut":
            way.cut()
        elif fault == "deaf":
            ear.swallow()
        else:
            builder.signal(signal.SIGSTOP) if fault == "freeze" else way.swallow()
            await eventually(partial(self.holds, TAKEN, f"%-{builder.pid}"), f"others go on after {fault}", PATIENCE)

    async def holds(self, condition: str, *values: object) -> bool:
        """Return whether the condition holds; it does not while the database is away."""
        with suppress(*UNAVAILABLE):
            async with connected(self.postgres.url) as connection:
                return bool(await connection.fetchval(condition, *values))
        return False

    async def _fill(self) -> None:
        """Take every connection that is left, until the builds are over or for a second."""
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(connected(self.postgres.url))
            with suppress(*UNAVAILABLE):
                while True:
                    await stack.enter_async_context(connected(self.postgres.url))
            with suppress(AssertionError):
                await eventually(partial(holds, connection, OVER), "all builds are over", 1)


async def holds(connection: Connection, condition: str) -> bool:
    return bool(await connection.fetchval(condition))


@asynccontextmanager
async def running_stack(directory: Path) -> AsyncIterator[FaultyStack]:
    with EmbeddedPostgres(directory, options=DURABLE) as postgres:
        faulty = FaultyStack(postgres, directory)
        try:
            async with AsyncExitStack() as stack:
                for _ in range(BUILDERS):
                    await faulty.add_builder(stack, directory)
                yield faulty
        finally:
            for builder in faulty.builders:
                builder.signal(signal.SIGKILL)


@pytest.fixture
async def faulty(own_cluster: Path) -> AsyncIterator[FaultyStack]:
    async with running_stack(own_cluster) as faulty:
        yield faulty


@pytest.mark.timeout(120 + 30 * ROUNDS)
async def test_faults_at_random_neither_lose_nor_repeat_a_build(faulty: FaultyStack) -> None:
    faulty.keep_up()
    faults = random.sample(FAULTS, len(FAULTS))  # each run has some, and all have their turn in a soak
    for number in range(ROUNDS):
        fault = faults[number % len(faults)]
        async with connected(faulty.postgres.url) as connection:
            await ask_for_builds(connection, number)
        await strike_at_random(faulty, fault)
        faulty.keep_up()
        await eventually(partial(faulty.holds, OVER), f"all builds are over after {fault}", PATIENCE)
        async with connected(faulty.postgres.url) as connection:
            assert not await connection.fetch(WRONG_BUILDS, ROWS), fault
            assert await connection.fetchval(COUNTED_ONCE, len(STEPS) * BYTES_A_STEP), fault


async def ask_for_builds(connection: Connection, number: int) -> None:
    """Ask for builds of probes that no round before had; one of them has no data."""
    probes = [f"p{number}_{n}" for n in range(BUILDS_A_ROUND - 1)] + [f"p{number}_none"]
    await put_in_catalogue(connection, *probes)
    for probe in probes:
        await request(connection, probe)


async def strike_at_random(faulty: FaultyStack, fault: str) -> None:
    """Strike at a random moment."""
    moment = asyncio.Event()
    asyncio.get_running_loop().call_later(random.uniform(0, LATEST_STRIKE_SECONDS), moment.set)
    await asyncio.wait_for(moment.wait(), 20)
    await faulty.strike(fault)


@pytest.fixture
def slow_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let builds last longer than it takes to look at them."""
    monkeypatch.setenv("MADE_UP_STEP_SECONDS", "1")


@pytest.mark.usefixtures("slow_steps")
@pytest.mark.timeout(300)
async def test_a_dead_builders_build_soon_runs_again(faulty: FaultyStack) -> None:
    """It runs within the lease and a poll: by default 15 s and 5 s, and at most 5 s more for a slow answer."""
    defaults = BuilderSettings(database_url="postgresql://unused")
    assert defaults.lease_seconds + defaults.poll_seconds + LONGEST_WAIT_SECONDS <= 30
    faulty.keep_up()
    async with connected(faulty.postgres.url) as connection:
        await ask_for_builds(connection, 0)
        workers = list[str]()

        async def something_runs() -> bool:
            workers[:] = await connection.fetchval(RUNNING)
            return bool(workers)

        await eventually(something_runs, "something runs", PATIENCE)
        [victim] = [builder for builder in faulty.builders if workers[0].endswith(f"-{builder.pid}")]
        victim.signal(signal.SIGKILL)
        await eventually(partial(holds, connection, OVER), "all builds are over", PATIENCE)
        waited = await connection.fetchval(LONGEST_PAUSE)
        assert waited is not None
        assert waited < LEASE_SECONDS + POLL_SECONDS + LONGEST_WAIT_SECONDS


COUNTED_ONCE = "SELECT (SELECT sum(bytes) FROM warehouse_days) = $1 * (SELECT count(*) FROM builds)"
OVER = "SELECT NOT EXISTS (SELECT FROM builds WHERE finished_at IS NULL)"
RUNNING = "SELECT coalesce(array_agg(worker), '{}') FROM builds WHERE state = 'running'"
TAKEN = "SELECT NOT EXISTS (SELECT FROM builds WHERE state = 'running' AND worker LIKE $1)"
# From the last that was heard of an attempt to the start of the next one, in seconds, where its lease was lost.
LONGEST_PAUSE = """
SELECT max(extract(epoch FROM started.occurred_at - heard.occurred_at))::float8
FROM event_log lost
JOIN event_log started ON started.type = 'build_started' AND started.data ->> 'build_id' = lost.data ->> 'build_id'
                      AND (started.data ->> 'attempt')::int = (lost.data ->> 'attempt')::int + 1
CROSS JOIN LATERAL (
    SELECT max(e.occurred_at) AS occurred_at FROM event_log e
    WHERE e.data ->> 'build_id' = lost.data ->> 'build_id' AND e.position < lost.position) heard
WHERE lost.type = 'build_failed' AND lost.data ->> 'code' = 'lease_lost'
"""
