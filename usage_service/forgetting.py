"""At the end of an epoch, nothing links its visitors to their events any more."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import asyncpg
import structlog

from usage_service.shared.postgres import UNAVAILABLE, Pool
from usage_service.visitors import VisitorKeys

EVERY_SECONDS = 3_600.0

log = structlog.get_logger(__name__)


async def forget_old_visitors(pool: Pool, visitors: VisitorKeys) -> None:
    """Deletes the visitor keys of epochs that are over, every hour until cancelled."""
    while True:
        try:
            async with pool.acquire(timeout=5) as connection:
                epoch = visitors.epoch(datetime.now(UTC))
                forgotten = await connection.fetchval("SELECT forget_visitors($1)", epoch)
            if forgotten:
                log.info("visitors_forgotten", visitors=forgotten, epoch=epoch)
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("visitors_not_forgotten", error=repr(error))
        await asyncio.sleep(EVERY_SECONDS)
