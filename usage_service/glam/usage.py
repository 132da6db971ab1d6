"""Usage log of GLAM: views of probes, listed or counted, with the names of fields that GLAM has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

import asyncpg
import msgspec
import numpy as np

from usage_service.probe_keys import Ints
from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool
from usage_service.stats.view_columns import Cell
from usage_service.stats.view_counts import ViewCounts

PROBE_SEARCH = "PROBE_SEARCH"  # GLAM's only action: a probe's data was requested, which is `probe_viewed` here
TRACKING_ID = ""  # empty, as in GLAM: the visitor is not given away
CONSTANT: dict[str, str | None] = {"action_type": PROBE_SEARCH, "tracking_id": TRACKING_ID}
COUNTED = ("action_type", "tracking_id", "probe_name", "product", "channel")
FIELDS = (*COUNTED, "id", "timestamp", "context")
DEFAULT_FIELDS = ("action_type", "timestamp", "probe_name")
RANGE_POSITIONS = 10_000


class UsageFilter(msgspec.Struct, frozen=True):
    """Filter of views: from the UTC day `first` to before the day `end`, of a product; None is no limit."""

    first: date | None
    end: date | None
    product: str | None

    def begins_before(self, instant: datetime) -> bool:
        """Return whether the filter lets views from before an instant pass."""
        return self.first is None or _midnight(self.first) < instant


class Groups(NamedTuple):
    """Combinations of fields, ordered by probe, product and channel; `group_of` has the index of each column's."""

    rows: list[dict[str, object]]
    group_of: Ints


async def count_views(
    connection: Connection, counts: ViewCounts, only: UsageFilter, fields: Sequence[str]
) -> list[dict[str, object]]:
    """Return each combination of `fields` (of COUNTED) with its number of views as `total`, largest first."""
    views = await counts.read_known(connection, only.first, only.end)
    groups = views.columns.cached(_grouped, tuple(fields))
    chosen = views.columns.chosen(only.product, None, bots=True)
    totals = np.bincount(groups.group_of[chosen], views.counts.sum(axis=0)[chosen], len(groups.rows)).astype(np.int64)
    order = np.argsort(-totals, kind="stable")
    ranked = zip(order.tolist(), totals[order].tolist(), strict=True)
    return [{**groups.rows[place], "total": total} for place, total in ranked if total]


def _grouped(cells: Sequence[Cell], fields: tuple[str, ...]) -> Groups:
    values = [_cell_values(cell, fields) for cell in cells]
    rows = sorted(set(values), key=lambda row: _in_order(dict(zip(fields, row, strict=True))))
    places = {row: place for place, row in enumerate(rows)}
    group_of = np.fromiter((places[row] for row in values), np.int64, len(values))
    return Groups([dict(zip(fields, row, strict=True)) for row in rows], group_of)


def _cell_values(cell: Cell, fields: tuple[str, ...]) -> tuple[str | None, ...]:
    named = {"product": cell.key.product, "channel": cell.channel or None, "probe_name": cell.key.probe} | CONSTANT
    return tuple(named[name] for name in fields)


def _in_order(row: dict[str, str | None]) -> tuple[object, ...]:
    channel = row.get("channel")
    return row.get("probe_name", ""), row.get("product", ""), channel is None, channel or ""


async def read_views(pool: Pool, upto: int, only: UsageFilter, fields: Sequence[str]) -> AsyncIterator[list[bytes]]:
    """Yield the views up to a position as JSON objects of `fields`, in the order of the log, a range at a time."""
    since, until = (_midnight(day) if day else None for day in (only.first, only.end))
    for after in range(0, upto, RANGE_POSITIONS):
        async with pool.acquire(timeout=5) as connection:
            range_end = min(after + RANGE_POSITIONS, upto)
            rows = await connection.fetch(query("glam", "views"), after, range_end, since, until, only.product)
        if rows:
            yield [msgspec.json.encode(_chosen(row, fields)) for row in rows]


async def whole_from(pool: Pool) -> tuple[int, datetime | None]:
    """Return the position and instant from which the log has every view; the instant is None if none was dropped."""
    async with pool.acquire(timeout=5) as connection:
        [row] = await connection.fetch(query("glam", "begins"))
    return row["position"], row["instant"]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _chosen(row: asyncpg.Record, fields: Sequence[str]) -> dict[str, object]:
    return {name: _value(row, name) for name in fields}


def _value(row: asyncpg.Record, name: str) -> object:
    if name in CONSTANT:
        return CONSTANT[name]
    return _context(row) if name == "context" else row[name]


def _context(row: asyncpg.Record) -> dict[str, Any]:
    """Return the query that was sent, as far as the event has its fields."""
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
