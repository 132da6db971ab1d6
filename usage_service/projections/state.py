"""Reading the projections: one consistent view of their rows, and how fresh it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool

Projection = Literal["catalogue", "journeys", "popularity", "releases", "sessions", "timeseries"]


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """How far a projection is: positions and seconds behind the end of the log, and what it cannot fold.

    `stage` is `live`, or `rebuild` or `verify` for what is filled beside it; after `failed_after` comes the event that
    `error` is about.
    """

    name: str
    stage: str
    version: int
    settings: dict[str, Any]
    position: int
    behind: int
    behind_seconds: float
    updated_at: datetime
    failed_at: datetime | None
    failed_after: int | None
    error: str | None


async def projection_statuses(connection: Connection) -> list[Status]:
    """Every projection, with what is filled beside it."""
    return [Status(**row) for row in await connection.fetch(query("projections", "statuses"))]


@dataclass(frozen=True)
class Snapshot:
    """One consistent view of projections: every event up to `position` is in it.

    `marks` change whenever rows that are seen here do: the generation of each projection, and where it last changed.
    """

    connection: Connection
    position: int
    marks: tuple[tuple[UUID, int], ...]


@asynccontextmanager
async def snapshot(pool: Pool, *projections: Projection) -> AsyncIterator[Snapshot]:
    """Rows and checkpoints as of the same instant, whatever is folded or swapped meanwhile."""
    async with (
        pool.acquire(timeout=5) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        # Before the snapshot is taken, so that the tables are those that its checkpoints speak of.
        await connection.execute(query("projections", "hold"))
        rows = await connection.fetch(query("projections", "marks"), projections)
        position = min(row["position"] for row in rows)
        yield Snapshot(connection, position, tuple((row["generation"], row["changed_at"]) for row in rows))
