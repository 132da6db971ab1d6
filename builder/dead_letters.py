"""Builds that failed for good: a list of them with their errors, and a way to queue them again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from builder.queries import query
from usage_service.shared.postgres import UNAVAILABLE, connect
from usage_service.shared.schema import DatabaseAwayError

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
    """Return the last thousand failed builds, the newest first. Raise DatabaseAwayError when PostgreSQL is away."""
    async with _connection(url) as connection:
        rows = await connection.fetch(query("dead_letters", "failed"))
    return [msgspec.convert(dict(row), FailedBuild) for row in rows]


async def retry_builds(url: str, build_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Queue the builds again, one by one, and return QUEUED for each, or the reason why not that `retry_build` gives.

    Raise DatabaseAwayError when PostgreSQL is away.
    """
    async with _connection(url) as connection:
        return {
            build_id: await connection.fetchval(query("dead_letters", "retry"), build_id, "probe-builder")
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
