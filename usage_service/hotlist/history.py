"""Request counts of past days, kept in memory and brought up to date with what has changed since.

All days of a history are read once. From then on an answer reads only the probes and days of the events that have come
since the last one, so that its time does not grow with the log.
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

from usage_service.hidden_probes import hidden_revision
from usage_service.hotlist.costs import CostReader
from usage_service.hotlist.counts import LONG_AGO, DayCounts, registrations
from usage_service.probe_keys import Counts, Ints, ProbeKey, ranks_of
from usage_service.projections.state import Revision, State, read_states
from usage_service.queries import query
from usage_service.shared.postgres import Connection

MOST_BEHIND = 200_000  # positions: to scan more of them takes as long as to read the days again
MOST_DAYS_KEPT = 400
MOST_PRODUCTS_KEPT = 8
DAYS_A_QUERY = 7  # between two queries the server answers other requests
VIEWS, PEOPLE, MISSING = range(3)


class Catalogue(NamedTuple):
    """Probes in the catalogue by what it knows of them, and the products that any probe was registered of.

    `unlistable` probes are retired or hidden.
    """

    registered: dict[ProbeKey, date]
    built: dict[ProbeKey, datetime]
    unlistable: frozenset[ProbeKey]
    products: frozenset[str]


EMPTY_CATALOGUE = Catalogue({}, {}, frozenset(), frozenset())


@dataclass(frozen=True)
class History:
    """Counts of some days, a mask of the columns that may be listed, and when the ETL last built each probe."""

    counts: DayCounts
    listable: npt.NDArray[np.bool_]
    built: dict[ProbeKey, datetime]


@dataclass
class _Day:
    since: int  # position that the counts are as of; later events did not change them
    counts: Counts  # views, people, missing by column


class _Columns(NamedTuple):
    """Columns that all histories of the same probes share: names, and what the catalogue says of each probe."""

    catalogue: Catalogue
    probes: Sequence[ProbeKey]
    registered: Ints
    ranks: Ints
    listable: npt.NDArray[np.bool_]


@dataclass
class _Product:
    popularity: State
    catalogue_revision: tuple[Revision, int] | None = None  # and that of the patterns that hide probes
    catalogue: Catalogue = EMPTY_CATALOGUE
    columns: dict[ProbeKey, int] = field(default_factory=dict)
    days: dict[date, _Day] = field(default_factory=dict)
    last_read: tuple[object, History] | None = None
    _described: _Columns | None = None

    def change(self, cells: Sequence[asyncpg.Record], now: State) -> None:
        """Update the probes and days that have changed up to now."""
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
        """Return all columns, also of registered probes that nobody has requested."""
        found = self._described
        if found is None or found.catalogue is not self.catalogue or len(found.probes) != len(self.columns):
            _places(self.catalogue.registered, self.columns)
            found = self._described = _describe(list(self.columns), self.catalogue)
        return found


def _describe(probes: Sequence[ProbeKey], catalogue: Catalogue) -> _Columns:
    registered = registrations(probes, catalogue.registered)
    # Of a product without any registration, unregistered probes may be listed, too.
    listable = [
        key not in catalogue.unlistable and (key in catalogue.registered or key.product not in catalogue.products)
        for key in probes
    ]
    return _Columns(catalogue, probes, registered, ranks_of(probes), np.array(listable, dtype=np.bool_))


class Histories:
    """Histories of some products, for one reader at a time, and the costs of builds; a backtest holds `replaying`."""

    def __init__(self) -> None:
        self._products: dict[str | None, _Product] = {}
        self._lock = asyncio.Lock()
        self.costs = CostReader()
        self.replaying = asyncio.Semaphore(1)  # a backtest takes a processor for seconds

    async def read(self, connection: Connection, product: str | None, first: date, last: date) -> History:
        """Return the history from the day `first` to `last`, as the connection's snapshot of the projections has it."""
        async with self._lock:
            states = await read_states(connection, "catalogue", "popularity")
            popularity = states.of("popularity")
            revision = states.of("catalogue").revision, await hidden_revision(connection)
            kept = await self._current(connection, product, popularity)
            asked = first, last, popularity.generation, popularity.position, revision
            if kept.last_read is not None and kept.last_read[0] == asked:
                return kept.last_read[1]
            wanted = [first + timedelta(days=number) for number in range((last - first).days + 1)]
            # With a snapshot older than what is kept, only the days that have changed since are read.
            missing = [day for day in wanted if day not in kept.days or kept.days[day].since > popularity.position]
            days = kept.days | await _load(connection, product, missing, kept.columns, popularity.position)
            if popularity.position == kept.popularity.position:
                kept.days = dict(list(days.items())[-MOST_DAYS_KEPT:])
            if kept.catalogue_revision != revision:
                kept.catalogue, kept.catalogue_revision = await _read_catalogue(connection, product), revision
            history = _history([days[day] for day in wanted], kept, first)
            kept.last_read = asked, history
            return history

    async def _current(self, connection: Connection, product: str | None, now: State) -> _Product:
        """Return what is kept of a product, brought up to date."""
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


async def read_last_days(connection: Connection, product: str | None, days: int, last_day: date) -> DayCounts | None:
    """Return the counts of at most so many days up to `last_day`, or None when there was no request up to then."""
    row = await connection.fetchrow(query("hotlist", "range"), product)
    if row is None or row["first"] is None or row["first"] > last_day:
        return None
    last = min(row["last"], last_day)
    first = max(row["first"], last - timedelta(days=days - 1))
    return (await Histories().read(connection, product, first, last)).counts


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


async def _read_catalogue(connection: Connection, product: str | None) -> Catalogue:
    row = await connection.fetchrow(query("hotlist", "catalogue"), product)
    if row is None or row["probes"] is None:
        return EMPTY_CATALOGUE
    keys = list(map(ProbeKey, row["products"], row["probes"]))
    return Catalogue(
        {key: at.date() for key, at in zip(keys, row["registered"], strict=True) if at},
        {key: at for key, at in zip(keys, row["built"], strict=True) if at},
        frozenset(key for key, unlistable in zip(keys, row["unlistable"], strict=True) if unlistable),
        frozenset(key.product for key, at in zip(keys, row["registered"], strict=True) if at),
    )


def _history(days: Sequence[_Day], kept: _Product, first: date) -> History:
    columns = kept.described()
    counts = np.zeros((3, len(days), len(columns.probes)), dtype=np.int32)
    for number, day in enumerate(days):
        counts[:, number, : day.counts.shape[1]] = day.counts
    since = np.where(columns.registered == LONG_AGO, LONG_AGO, columns.registered - first.toordinal())
    made = DayCounts(first, columns.probes, counts[VIEWS], counts[PEOPLE], counts[MISSING], since, columns.ranks)
    return History(made, columns.listable, kept.catalogue.built)
