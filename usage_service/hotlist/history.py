"""What was asked for on the days before now, kept in memory and brought up to date by what has changed since.

The days of a history of 90 are read once. From then on an answer reads only the probes and days that events have come
for since the last one, so that its time does not grow with the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import NamedTuple

import asyncpg
import numpy as np
import numpy.typing as npt

from usage_service.hotlist.counts import LONG_AGO, DayCounts, registrations
from usage_service.probe_keys import Counts, Ints, ProbeKey, ranks_of
from usage_service.projections.state import Revision, State, read_states
from usage_service.queries import query
from usage_service.shared.postgres import Connection

MOST_BEHIND = 200_000  # positions: to look through more takes as long as to read the days again
MOST_DAYS_KEPT = 400
MOST_PRODUCTS_KEPT = 8
DAYS_A_QUERY = 7  # between two of them the server answers others
VIEWS, PEOPLE, MISSING = range(3)


class Known(NamedTuple):
    """What the catalogue says; `kept` are the products that it has any probe of."""

    registered: dict[ProbeKey, date]
    built: dict[ProbeKey, datetime]
    gone: frozenset[ProbeKey]
    kept: frozenset[str]


NOTHING_KNOWN = Known({}, {}, frozenset(), frozenset())


@dataclass(frozen=True)
class History:
    """The counts of some days, which columns may be listed, and when the ETL last built what."""

    counts: DayCounts
    listable: npt.NDArray[np.bool_]
    built: dict[ProbeKey, datetime]


@dataclass
class _Day:
    since: int  # its rows are as of this position, and later ones unless events came
    counts: Counts  # views, people, missing by column


class _Columns(NamedTuple):
    """What is the same for every history of the same probes: their names, and what the catalogue says of each."""

    known: Known
    probes: Sequence[ProbeKey]
    registered: Ints
    ranks: Ints
    listable: npt.NDArray[np.bool_]


@dataclass
class _Product:
    popularity: State
    catalogue: Revision | None = None
    known: Known = NOTHING_KNOWN
    columns: dict[ProbeKey, int] = field(default_factory=dict)
    days: dict[date, _Day] = field(default_factory=dict)
    last_read: tuple[object, History] | None = None
    _described: _Columns | None = None

    def change(self, cells: Sequence[asyncpg.Record], now: State) -> None:
        """Takes in the probes and days that have changed up to now."""
        for cell in cells:
            day = self.days.get(cell["day"])
            if day is not None:
                [column] = _places([ProbeKey(cell["product"], cell["probe"])], self.columns)
                missing_columns = column + 1 - day.counts.shape[1]
                if missing_columns > 0:
                    day.counts = np.pad(day.counts, ((0, 0), (0, missing_columns)))
                day.counts[:, column] = cell["views"], cell["people"], cell["missing"]
                day.since = now.position
        self.popularity = now

    def described(self) -> _Columns:
        """Every column, also those of probes that are registered and nobody has asked for."""
        found = self._described
        if found is None or found.known is not self.known or len(found.probes) != len(self.columns):
            _places(self.known.registered, self.columns)
            found = self._described = _describe(list(self.columns), self.known)
        return found


def _describe(probes: Sequence[ProbeKey], known: Known) -> _Columns:
    registered = registrations(probes, known.registered)
    listable = [key not in known.gone and (key in known.registered or key.product not in known.kept) for key in probes]
    return _Columns(known, probes, registered, ranks_of(probes), np.array(listable, dtype=np.bool_))


class Histories:
    """Those of some products, for one reader at a time; and the turn of who replays one."""

    def __init__(self) -> None:
        self._products: dict[str | None, _Product] = {}
        self._lock = asyncio.Lock()
        self.replaying = asyncio.Semaphore(1)  # a backtest takes a processor for seconds

    async def read(self, connection: Connection, product: str | None, first: date, last: date) -> History:
        """The days from first to last, as the connection's snapshot of the projections has them."""
        async with self._lock:
            states = await read_states(connection, "catalogue", "popularity")
            popularity, catalogue = states.of("popularity"), states.of("catalogue").revision
            kept = await self._current(connection, product, popularity)
            asked = first, last, popularity.generation, popularity.position, catalogue
            if kept.last_read is not None and kept.last_read[0] == asked:
                return kept.last_read[1]
            wanted = [first + timedelta(days=number) for number in range((last - first).days + 1)]
            # Who has a snapshot from before what is kept reads those days alone that have changed since.
            missing = [day for day in wanted if day not in kept.days or kept.days[day].since > popularity.position]
            days = kept.days | await _load(connection, product, missing, kept.columns, popularity.position)
            if popularity.position == kept.popularity.position:
                kept.days = dict(list(days.items())[-MOST_DAYS_KEPT:])
            if kept.catalogue != catalogue:
                kept.known, kept.catalogue = await _known(connection, product), catalogue
            history = _history([days[day] for day in wanted], kept, first)
            kept.last_read = asked, history
            return history

    async def _current(self, connection: Connection, product: str | None, now: State) -> _Product:
        """What is kept of a product, with what has changed up to now."""
        kept = self._products.pop(product, None)
        if kept is None or kept.popularity.generation != now.generation:
            kept = _Product(now)
        elif now.position > kept.popularity.position:
            whole_from: int = await connection.fetchval(query("hotlist", "whole_from"))
            if kept.popularity.position < max(now.position - MOST_BEHIND, whole_from - 1):
                kept = _Product(now)
            else:
                cells = await connection.fetch(
                    query("hotlist", "changed"), product, kept.popularity.position, now.position
                )
                kept.change(cells, now)
        self._products[product] = kept
        if len(self._products) > MOST_PRODUCTS_KEPT:
            del self._products[next(iter(self._products))]
        return kept


async def _load(
    connection: Connection, product: str | None, days: Sequence[date], columns: dict[ProbeKey, int], since: int
) -> dict[date, _Day]:
    loaded = {day: _Day(since, np.zeros((3, 0), dtype=np.int32)) for day in days}
    for begin in range(0, len(days), DAYS_A_QUERY):
        for row in await connection.fetch(query("hotlist", "days"), product, days[begin : begin + DAYS_A_QUERY]):
            places = _places(map(ProbeKey, row["products"], row["probes"]), columns)
            counts = np.zeros((3, len(columns)), dtype=np.int32)
            counts[:, places] = row["views"], row["people"], row["missing"]
            loaded[row["day"]] = _Day(since, counts)
    return loaded


def _places(keys: Iterable[ProbeKey], columns: dict[ProbeKey, int]) -> list[int]:
    return [columns.setdefault(key, len(columns)) for key in keys]


async def _known(connection: Connection, product: str | None) -> Known:
    row = await connection.fetchrow(query("hotlist", "catalogue"), product)
    if row is None or row["probes"] is None:
        return NOTHING_KNOWN
    keys = list(map(ProbeKey, row["products"], row["probes"]))
    return Known(
        {key: at.date() for key, at in zip(keys, row["registered"], strict=True) if at},
        {key: at for key, at in zip(keys, row["built"], strict=True) if at},
        frozenset(key for key, gone in zip(keys, row["gone"], strict=True) if gone),
        frozenset(key.product for key, at in zip(keys, row["registered"], strict=True) if at),
    )


def _history(days: Sequence[_Day], kept: _Product, first: date) -> History:
    columns = kept.described()
    counts = np.zeros((3, len(days), len(columns.probes)), dtype=np.int32)
    for number, day in enumerate(days):
        counts[:, number, : day.counts.shape[1]] = day.counts
    since = np.where(columns.registered == LONG_AGO, LONG_AGO, columns.registered - first.toordinal())
    made = DayCounts(first, columns.probes, counts[VIEWS], counts[PEOPLE], counts[MISSING], since, columns.ranks)
    return History(made, columns.listable, kept.known.built)
