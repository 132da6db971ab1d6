"""The connections of a builder to its queue, each taken for one call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from usage_service.shared.postgres import Connection, Pool

LONGEST_WAIT_SECONDS = 5.0  # for a connection, and for the answer to what is quick


class Connections:
    """A pool's connections. `wait`: for how many seconds one, or the answer of a report, may be waited for."""

    def __init__(self, pool: Pool, lease: timedelta) -> None:
        self._pool = pool
        self.wait = min(LONGEST_WAIT_SECONDS, lease.total_seconds() / 3)

    @asynccontextmanager
    async def one(self) -> AsyncIterator[Connection]:
        """Take a connection while inside. Raise one of UNAVAILABLE when there is none in time."""
        async with self._pool.acquire(timeout=self.wait) as connection:
            try:
                yield connection
            except TimeoutError:
                # Nothing came back: whatever else is open may lead through the same hole.
                await self._pool.expire_connections()
                raise
