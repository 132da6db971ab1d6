"""Keeps the projections up with the log: woken by a notification, polling behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal, get_args

import asyncpg
import structlog

from usage_service.shared.postgres import UNAVAILABLE, Connection, Pool

Projection = Literal["catalogue", "popularity", "releases", "sessions"]
PROJECTIONS: tuple[Projection, ...] = get_args(Projection)

BATCH_POSITIONS = 10_000
POLL_SECONDS = 1.0
PAUSE_SECONDS = 0.05  # between folds: many small batches cost more than one
AFTER_FAILURE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Runner:
    """Folds one projection; a failure stops this one only, and is tried again."""

    def __init__(self, pool: Pool, projection: Projection) -> None:
        self._pool = pool
        self._projection = projection
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Says that there may be new events."""
        self._wake.set()

    async def run(self) -> None:
        """Folds until cancelled."""
        while True:
            wait = POLL_SECONDS
            await asyncio.sleep(PAUSE_SECONDS)
            try:
                await self._catch_up()
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                log.error("projection_failed", projection=self._projection, error=repr(error))
                wait = AFTER_FAILURE_SECONDS
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def _catch_up(self) -> None:
        while True:
            async with self._pool.acquire(timeout=5) as connection:
                row = await connection.fetchrow(
                    "SELECT * FROM advance_projection($1, $2)", self._projection, BATCH_POSITIONS
                )
            # Unmoved behind the end: another process folds it just now.
            if row is None or row["now_at"] in (row["log_end"], row["was_at"]):
                return


class Snapshot:
    """One consistent view of the projections, and how far the one asked is."""

    def __init__(self, connection: Connection, position: int) -> None:
        self.connection = connection
        self.position = position


@asynccontextmanager
async def snapshot(pool: Pool, projection: Projection) -> AsyncIterator[Snapshot]:
    """Rows and checkpoint as of the same instant."""
    async with (
        pool.acquire(timeout=5) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        position = await connection.fetchval("SELECT position FROM projections WHERE name = $1", projection)
        yield Snapshot(connection, position)
