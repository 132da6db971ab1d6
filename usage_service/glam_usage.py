"""GLAM's usage log: who looked at which probe, event by event or counted, under the names that GLAM has for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time
from typing import Any

import asyncpg
import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool

PROBE_SEARCH = "PROBE_SEARCH"  # GLAM's only action: a probe's data was asked for, which here is `probe_viewed`
TRACKING_ID = ""  # as in GLAM, which has the column and nothing in it: who it was stays in the log
COUNTED = ("action_type", "tracking_id", "probe_name", "product", "channel")
FIELDS = (*COUNTED, "id", "timestamp", "context")
DEFAULT_FIELDS = ("action_type", "timestamp", "probe_name")
SPAN_POSITIONS = 10_000


class UsageFilter(msgspec.Struct, frozen=True):
    """Views from one UTC day to before another, each None for any, of a product or all."""

    first: date | None
    end: date | None
    product: str | None


async def count_views(connection: Connection, only: UsageFilter, fields: Sequence[str]) -> list[dict[str, object]]:
    """How many views there are of each combination of `fields` (of COUNTED), most first: `total` beside them."""
    rows = await connection.fetch(
        query("glam", "counts"),
        only.first,
        only.end,
        only.product,
        "product" in fields,
        "channel" in fields,
        "probe_name" in fields,
    )
    return [_chosen(row, fields) | {"total": row["total"]} for row in rows]


async def read_views(pool: Pool, upto: int, only: UsageFilter, fields: Sequence[str]) -> AsyncIterator[list[bytes]]:
    """The views up to a position as JSON objects of `fields`, in the order of the log, a span of it at a time."""
    since, until = (_midnight(day) for day in (only.first, only.end))
    for after in range(0, upto, SPAN_POSITIONS):
        async with pool.acquire(timeout=5) as connection:
            span_end = min(after + SPAN_POSITIONS, upto)
            rows = await connection.fetch(query("glam", "views"), after, span_end, since, until, only.product)
        if rows:
            yield [msgspec.json.encode(_chosen(row, fields)) for row in rows]


def _midnight(day: date | None) -> datetime | None:
    return datetime.combine(day, time(), UTC) if day else None


def _chosen(row: asyncpg.Record, fields: Sequence[str]) -> dict[str, object]:
    return {name: _value(row, name) for name in fields}


def _value(row: asyncpg.Record, name: str) -> object:
    if name == "action_type":
        return PROBE_SEARCH
    if name == "tracking_id":
        return TRACKING_ID
    return _context(row) if name == "context" else row[name]


def _context(row: asyncpg.Record) -> dict[str, Any]:
    """The query that was sent, as far as the event tells."""
    given = {
        "product": row["product"],
        "app_id": row["channel"],
        "probe": row["probe_name"],
        "ping_type": row["ping_type"],
        "os": row["os"],
        "aggregationLevel": row["aggregation_level"],
        "versions": row["versions"],
    }
    return {name: value for name, value in given.items() if value is not None}
