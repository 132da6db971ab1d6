"""Usage log of GLAM: views of probes, listed or counted, with the names of fields that GLAM has."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from typing import Any, NamedTuple

import asyncpg
import msgspec
import numpy as np

from usage_service.probe_keys import Ints
from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool
from usage_service.stats.view_columns import Cell
from usage_service.stats.view_counts import FOUND, ViewCounts

PROBE_SEARCH = "PROBE_SEARCH"  # GLAM's only action: a probe's data was requested, which is `probe_viewed` here
TRACKING_ID = ""  # empty, as in GLAM: the visitor is not given away
CONSTANT: dict[str, str | None] = {"action_type": PROBE_SEARCH, "tracking_id": TRACKING_ID}
COUNTED = ("action_type", "tracking_id", "probe_name", "product", "channel")
FIELDS = (*COUNTED, "id", "timestamp", "context")
DEFAULT_FIELDS = ("action_type", "timestamp", "probe_name")
RANGE_POSITIONS = 10_000


class UsageFilter(msgspec.Struct, frozen=True):
    """Filter of views: from the instant `first` to `last`, both included, of a product; None is no limit.

    `misses`: whether views that found nothing are among them. GLAM records none.
    """

    first: datetime | None
    last: datetime | None
    product: str | None
    misses: bool

    def begins_before(self, instant: datetime) -> bool:
        """Return whether the filter lets views from before an instant pass."""
        return self.first is None or self.first < instant

    @property
    def is_of_days(self) -> bool:
        """Return whether it begins and ends with a UTC day, so that views are counted by days."""
        return all(limit is None or limit == _midnight(limit.date()) for limit in (self.first, self.last))


class Groups(NamedTuple):
    """Combinations of fields, ordered by probe, product and channel; `group_of` has the index of each column's."""

    rows: list[dict[str, object]]
    group_of: Ints


async def count_views(
    connection: Connection, counts: ViewCounts, only: UsageFilter, fields: Sequence[str]
) -> list[dict[str, object]]:
    """Return each combination of `fields` (of COUNTED) with its number of views as `total`, largest first.

    The filter must be of days.
    """
    first, end = (limit.date() if limit else None for limit in (only.first, only.last))
    views = await counts.read_known(connection, first, end)
    groups = views.columns.cached(_grouped, tuple(fields))
    chosen = views.columns.chosen(only.product, None, bots=True)
    found_and_missing = views.counts(chosen)
    numbers = found_and_missing.sum(axis=0) if only.misses else found_and_missing[FOUND]
    totals = np.bincount(groups.group_of[chosen], numbers, len(groups.rows)).astype(np.int64)
    counted = Counter(dict(zip(map(_key, groups.rows), totals.tolist(), strict=True)))
    if only.last is not None and (only.first is None or only.first <= only.last):
        # Days end before their last instant, which GLAM includes.
        for row in await connection.fetch(query("glam", "at_midnight"), only.last, only.product, only.misses):
            counted[_key({name: _value(row, name) for name in fields})] += 1
    return _ranked(counted)


async def count_listed(
    pieces: AsyncIterator[Sequence[asyncpg.Record]], fields: Sequence[str]
) -> list[dict[str, object]]:
    """Count views that are read one by one, as those of parts of days have to be, like `count_views`."""
    counted: Counter[tuple[tuple[str, Any], ...]] = Counter()
    async for rows in pieces:
        counted.update(_key({name: _value(row, name) for name in fields}) for row in rows)
    return _ranked(counted)


def _key(row: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(row.items())


def _ranked(counted: Mapping[tuple[tuple[str, Any], ...], int]) -> list[dict[str, object]]:
    found = [dict(key) | {"total": total} for key, total in counted.items() if total]
    return sorted(found, key=lambda row: (-row["total"], _in_order(row)))


def _grouped(cells: Sequence[Cell], fields: tuple[str, ...]) -> Groups:
    values = [_cell_values(cell, fields) for cell in cells]
    rows = sorted(set(values), key=lambda row: _in_order(dict(zip(fields, row, strict=True))))
    places = {row: place for place, row in enumerate(rows)}
    group_of = np.fromiter((places[row] for row in values), np.int64, len(values))
    return Groups([dict(zip(fields, row, strict=True)) for row in rows], group_of)


def _cell_values(cell: Cell, fields: tuple[str, ...]) -> tuple[str | None, ...]:
    named = {"product": cell.key.product, "channel": cell.channel or None, "probe_name": cell.key.probe} | CONSTANT
    return tuple(named[name] for name in fields)


def _in_order(row: Mapping[str, Any]) -> tuple[object, ...]:
    channel = row.get("channel")
    return row.get("probe_name", ""), row.get("product", ""), channel is None, channel or ""


async def read_views(pool: Pool, upto: int, only: UsageFilter) -> AsyncIterator[list[asyncpg.Record]]:
    """Yield the views up to a position, in the order of the log, a range of positions at a time."""
    asked = only.first, only.last, only.product, only.misses
    for after in range(0, upto, RANGE_POSITIONS):
        async with pool.acquire(timeout=5) as connection:
            rows = await connection.fetch(query("glam", "views"), after, min(after + RANGE_POSITIONS, upto), *asked)
        if rows:
            yield rows


def as_object(row: asyncpg.Record, fields: Sequence[str]) -> bytes:
    """Return a view as a JSON object of `fields`."""
    return msgspec.json.encode({name: _value(row, name) for name in fields})


async def whole_from(pool: Pool) -> tuple[int, datetime | None]:
    """Return the position and instant from which the log has every view; the instant is None if none was dropped."""
    async with pool.acquire(timeout=5) as connection:
        [row] = await connection.fetch(query("log", "whole"))
    return row["position"], row["instant"]


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _value(row: asyncpg.Record, name: str) -> object:
    if name in CONSTANT:
        return CONSTANT[name]
    return _context(row) if name == "context" else row[name]


def _context(row: asyncpg.Record) -> dict[str, Any]:
    """Return the query that was sent, as far as the event has its fields, and `found` where it found nothing."""
    given = {
        "product": row["product"],
        "app_id": row["channel"],
        "probe": row["probe_name"],
        "ping_type": row["ping_type"],
        "os": row["os"],
        "aggregationLevel": row["aggregation_level"],
        "versions": row["versions"],
        "found": None if row["found"] else False,
    }
    return {name: value for name, value in given.items() if value is not None}
