"""Builds that failed for good: which, why, and trying them again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from usage_service.shared.postgres import UNAVAILABLE, connect
from usage_service.shared.schema import DatabaseAwayError

FAILED = """
SELECT b.build_id, b.product, b.channel, b.probe, b.attempt, b.finished_at, b.error ->> 'code' AS code,
       b.error ->> 'message' AS message
FROM builds b
WHERE b.state = 'failed' AND NOT EXISTS (
    SELECT FROM builds later
    WHERE (later.product, later.channel, later.probe) = (b.product, b.channel, b.probe)
      AND later.requested_at > b.requested_at)
ORDER BY b.finished_at DESC
LIMIT 1000
"""
QUEUED = "queued"


class FailedBuild(msgspec.Struct, frozen=True):
    """A build that failed for good and was not asked for again since."""

    build_id: UUID
    product: str
    channel: str
    probe: str
    attempt: int
    finished_at: datetime
    code: str | None
    message: str | None


async def failed_builds(url: str) -> list[FailedBuild]:
    """The last thousand, the newest first. Raises DatabaseAwayError."""
    async with _connection(url) as connection:
        rows = await connection.fetch(FAILED)
    return [msgspec.convert(dict(row), FailedBuild) for row in rows]


async def retry_builds(url: str, build_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Queues them again, each by itself: QUEUED, or why not, as `retry_build` says. Raises DatabaseAwayError."""
    async with _connection(url) as connection:
        return {
            build_id: await connection.fetchval("SELECT retry_build($1, $2)", build_id, "probe-builder")
            for build_id in build_ids
        }


@asynccontextmanager
async def _connection(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    try:
        connection = await connect(url, role="usage_builder", application="probe-builder")
        try:
            yield connection
        finally:
            await connection.close(timeout=5)
    except UNAVAILABLE as error:
        raise DatabaseAwayError(f"the database of DATABASE_URL did not answer: {str(error) or repr(error)}") from None
