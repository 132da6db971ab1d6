"""Mirror, server, PostgreSQL and warehouse are killed at any moment: every position is in the mirror once, as it was.

Old events are dropped in between, and read from there. SOAK_ROUNDS says how many kills there are.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import aiohttp
import asyncpg
import pytest

from tests.conftest import SECRET
from tests.support.mirrors import AT_ONCE, NAME, Program, log_rows, mirror_of, mirrored
from tests.support.servers import Connection, connected, eventually, rounds
from tests.support.traffic import append_traffic, ignore
from tests.support.warehouse_support import rows
from tests.support.warehouse_tables import empty_database
from usage_service.local.embedded_postgres import EmbeddedPostgres
from usage_service.local.ports import free_port
from usage_service.local.postgres_cluster import PostgresCluster, wait_until
from usage_service.log.mirrored import MirrorPlace
from usage_service.retention import PositionRange, drop_mirrored
from usage_service.shared.bigquery.errors import WorkError
from usage_service.shared.postgres import UNAVAILABLE

ROUNDS = rounds(1)
PATIENCE = 90.0  # seconds, on the busiest machine
LATEST_STRIKE_SECONDS = 1.0
DURABLE = {"fsync": "on", "recovery_init_sync_method": "syncfs", "shared_buffers": "32MB", "max_connections": "50"}
PROGRAMS = ("mirror", "server", "warehouse")
VICTIMS = (*PROGRAMS, "mirror", "warehouse", "postgres", "all")
MIRRORED = "SELECT coalesce(bool_and(behind = 0), false) FROM mirror_status"
FOLDED = "SELECT bool_and(behind = 0) FROM projection_status WHERE stage = 'live'"
COUNTS = "SELECT COUNT(*), COUNT(DISTINCT position), MAX(position) FROM `glam-project.usage.event_log`"


class Stack:
    """A database that survives crashes, a server, a warehouse, and a mirror of the log in it."""

    def __init__(self, postgres: EmbeddedPostgres, directory: Path) -> None:
        self.postgres = postgres
        self.cluster = PostgresCluster(directory / "postgres")
        ports = {name: str(free_port()) for name in ("server", "warehouse")}
        self.url = f"http://127.0.0.1:{ports['server']}"
        self.place = MirrorPlace(NAME, f"http://127.0.0.1:{ports['warehouse']}")
        (directory / "warehouse").mkdir()
        empty_database(directory / "warehouse")
        environ = {
            "DATABASE_URL": postgres.url,
            "USAGE_SERVICE_PORT": ports["server"],
            "USAGE_SERVICE_VISITOR_SECRET": SECRET,
            "USAGE_SERVICE_OPEN_READS": "true",
            "USAGE_SERVICE_MIRROR": NAME,
            "USAGE_SERVICE_MIRROR_WAREHOUSE_URL": str(self.place.warehouse_url),
            "USAGE_SERVICE_MIRROR_SECONDS": "0.05",
            "USAGE_SERVICE_MIRROR_EVENTS": "150",
            "USAGE_SERVICE_MIRROR_VERIFY_SECONDS": "1",
        }
        place = ["--port", ports["warehouse"], "--data-dir", str(directory / "warehouse")]
        arguments = {
            "warehouse": ["builder", "warehouse", "serve", *place],
            "server": ["usage_service", "serve"],
            "mirror": ["usage_service", "mirror"],
        }
        self.programs = {name: Program(name, words, environ, directory) for name, words in arguments.items()}

    def strike(self, victim: str) -> None:
        """Kill one of them, or all."""
        if victim in ("postgres", "all"):
            self.cluster.kill()
            assert wait_until(lambda: self.postgres.pid is None, 10)
        for name, program in self.programs.items():
            if victim in (name, "all"):
                program.kill()

    def keep_up(self) -> None:
        """Start again whatever is dead."""
        self.postgres.start()
        for program in self.programs.values():
            program.keep_up()


@pytest.fixture
def stack(own_cluster: Path, tmp_path: Path) -> Iterator[Stack]:
    with EmbeddedPostgres(own_cluster, options=DURABLE) as postgres:
        stack = Stack(postgres, tmp_path)
        try:
            yield stack
        finally:
            for program in stack.programs.values():
                program.kill()


async def done(what: Callable[[], Awaitable[bool]]) -> bool:
    """Return whether it is so; not where something that it asks is away."""
    with suppress(*UNAVAILABLE, asyncpg.PostgresError, WorkError, aiohttp.ClientError):
        return await what()
    return False


async def is_so(stack: Stack, question: str) -> bool:
    async with connected(stack.postgres.url) as connection:
        return bool(await connection.fetchval(question))


@pytest.mark.timeout(120 + 30 * ROUNDS)
async def test_every_position_is_there_once_as_it_was(stack: Stack) -> None:
    log: dict[int, tuple[object, ...]] = {}
    for number in range(ROUNDS):
        stack.keep_up()
        await events_while_killing(stack)
        stack.keep_up()
        await eventually(partial(done, partial(is_so, stack, MIRRORED)), "the log is mirrored", PATIENCE)
        await eventually(partial(done, partial(is_so, stack, FOLDED)), "the log is folded", PATIENCE)
        async with connected(stack.postgres.url) as connection:
            log |= {int(str(row[0])): row for row in await log_rows(connection)}
            async with mirror_of(stack.postgres.url, stack.place, AT_ONCE) as mirror:
                assert (await mirror.verify()).differing == 0
            assert rows(stack.place.client(), COUNTS) == [(len(log), len(log), max(log))]
            if number % 3 == 0:
                await drop_some(stack, connection)
    # What the last dropping has appended comes later.
    assert mirrored(stack.place.client())[: len(log)] == list(log.values())
    await eventually(partial(done, partial(answers_all, stack, list(log))), "the server answers", PATIENCE)


async def events_while_killing(stack: Stack) -> None:
    """Append events until something has been killed."""
    strike = asyncio.create_task(asyncio.sleep(random.uniform(0, LATEST_STRIKE_SECONDS)))
    while not strike.done():
        async with connected(stack.postgres.url) as connection:
            await append_traffic(connection, random.randint(1, 200))
        await asyncio.wait([strike], timeout=0.1)
    stack.strike(random.choice(VICTIMS))


async def drop_some(stack: Stack, connection: Connection) -> None:
    """Drop the first half of what the log still has."""
    first, last = await connection.fetchrow("SELECT min(position), max(position) FROM event_log") or (0, 0)
    dropped = PositionRange(first, (first + last) // 2)
    assert (await drop_mirrored(stack.postgres.url, dropped, NAME, ignore)).upto == dropped.last


async def answers_all(stack: Stack, positions: list[int]) -> bool:
    """Return whether the server lists these positions, in order, from the mirror and from the log."""
    async with (
        aiohttp.ClientSession(raise_for_status=True) as session,
        session.get(f"{stack.url}/v1/events") as response,
    ):
        lines = (await response.text()).splitlines()
    found = [int(line.partition(",")[0].removeprefix('{"position":')) for line in lines]
    return found[: len(positions)] == positions
