"""Tells listeners that the log has grown: one hint every few milliseconds, however many commits there are."""

from __future__ import annotations

import asyncio

import asyncpg
import structlog

from usage_service.shared.postgres import UNAVAILABLE, Pool

CHANNEL = "events_appended"
PAUSE_SECONDS = 0.01  # a commit that notifies takes a lock on the whole database: not one for each commit of events

log = structlog.get_logger(__name__)


class Announcer:
    """Sends NOTIFY events_appended after `announce`, coalesced; listeners' polling makes up for a lost hint."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._grown = asyncio.Event()

    def announce(self) -> None:
        """Says that events were committed."""
        self._grown.set()

    async def run(self) -> None:
        """Announces until cancelled."""
        while True:
            await self._grown.wait()
            self._grown.clear()
            try:
                async with self._pool.acquire(timeout=5) as connection:
                    await connection.execute("NOTIFY events_appended")
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:  # such as a full queue of notifications
                log.warning("hint_not_sent", error=repr(error))
            await asyncio.sleep(PAUSE_SECONDS)
