"""Calls to a database that may be away for a while."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from usage_service.shared.postgres import UNAVAILABLE

DATABASE_AWAY_SECONDS = 30.0  # after which a call to a database that is away is given up
AGAIN_SECONDS = 0.25

Result = TypeVar("Result")
log = structlog.get_logger(__name__)


async def retried_while_away(call: Callable[[], Awaitable[Result]]) -> Result:
    """Return the result of the call, which is made again while the database is away, for DATABASE_AWAY_SECONDS."""
    deadline = time.monotonic() + DATABASE_AWAY_SECONDS
    while True:
        try:
            return await call()
        except UNAVAILABLE as error:
            if time.monotonic() > deadline:
                raise
            log.info("database_away", error=repr(error))
        await asyncio.sleep(AGAIN_SECONDS)
