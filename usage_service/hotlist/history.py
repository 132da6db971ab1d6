"""Request counts of past days, kept in memory and brought up to date with what has changed since.

All days of a history are read once. From then on an answer reads only the probes and days of the events that have come
since the last one, so that its time does not grow with the log. What is learned of the days goes on from where it was,
too: from one of a few days that are kept, before the first that has changed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from operator import is_
from threading import Lock
from typing import NamedTuple, TypeVar

import asyncpg
import numpy as np

from usage_service.hidden_probes import hidden_revision
from usage_service.hotlist.costs import CostReader
from usage_service.hotlist.counts import LONG_AGO, Columns, DayCounts, DayRow, columns_of
from usage_service.hotlist.learning import Learned, nothing_learned
from usage_service.probe_keys import Counts, ProbeKey
from usage_service.projections.state import State, read_states
from usage_service.queries import query
from usage_service.shared.postgres import Connection

MOST_BEHIND = 200_000  # positions: to scan more of them takes as long as to read the days again
MOST_DAYS_KEPT = 500
MOST_PRODUCTS_KEPT = 8
DAYS_A_QUERY = 100  # what an interrupted reading has read is not read again
VIEWS, PEOPLE, MISSING = range(3)
V = TypeVar("V")
LAST_DAYS_LEARNED, DAYS_BETWEEN_LEARNED, MOST_LEARNED_KEPT = 3, 100, 8


class Catalogue(NamedTuple):
    """Probes in the catalogue by what it knows of them, and the products that any probe was registered of.

    `retired` are those that were not registered again since.
    """

    registered: dict[ProbeKey, date]
    types: dict[ProbeKey, str]
    built: dict[ProbeKey, datetime]
    retired: dict[ProbeKey, date]
    hidden: frozenset[ProbeKey]
    products: frozenset[str]

    def with_changed(self, changed: Catalogue, probes: Iterable[ProbeKey]) -> Catalogue:
        """Return the catalogue with what is now known of the probes; what stays the same is the same object."""
        keys = set(probes)
        retired = {key: day for key, day in self.retired.items() if key not in keys} | changed.retired
        hidden = self.hidden - keys | changed.hidden
        return Catalogue(
            _updated(self.registered, changed.registered),
            _updated(self.types, changed.types),
            self.built | changed.built,
            self.retired if retired == self.retired else retired,
            self.hidden if hidden == self.hidden else hidden,
            self.products if changed.products <= self.products else self.products | changed.products,
        )


def _updated(before: dict[ProbeKey, V], changed: dict[ProbeKey, V]) -> dict[ProbeKey, V]:
    return before if changed.items() <= before.items() else before | changed


EMPTY_CATALOGUE = Catalogue({}, {}, {}, {}, frozenset(), frozenset())


@dataclass(frozen=True)
class _Day:
    """Counts of a day (views, people, missing) by column, never changed: a change makes another day.

    `since` is a position that they are as of; later events did not change them.
    """

    since: int
    counts: Counts

    @property
    def row(self) -> DayRow:
        return DayRow(*self.counts)


@dataclass(frozen=True)
class History:
    """Days from `first` on, by column, and when the ETL last built each probe."""

    first: date
    columns: Columns
    days: Sequence[_Day]
    built: dict[ProbeKey, datetime]
    _learning: Learning

    def counts(self, last_days: int) -> DayCounts:
        """Return the counts of at most so many of the last days."""
        days = self.days[-last_days:]
        counts = np.zeros((3, len(days), len(self.columns)), dtype=np.int32)
        for number, day in enumerate(days):
            counts[:, number, : day.counts.shape[1]] = day.counts
        first = self.first + timedelta(days=len(self.days) - len(days))
        return DayCounts(first, self.columns, counts[VIEWS], counts[PEOPLE], counts[MISSING])

    def learned(self, is_over: bool = True) -> Learned:
        """Return what the days teach; the last is no evidence of its night unless it is over. It may take seconds."""
        return self._learning.learned(self.first, self.columns, self.days, is_over)


class _Kept(NamedTuple):
    """What was learned of the days from `first` on."""

    first: date
    days: Sequence[_Day]
    learned: Learned


class Learning:
    """What was learned of a product's days, kept at the end of a few of them."""

    def __init__(self) -> None:
        self._kept: list[_Kept] = []
        self._lock = Lock()

    def learned(self, first: date, columns: Columns, days: Sequence[_Day], is_over: bool) -> Learned:
        """Return what the days teach, from the last kept one that these days begin with."""
        with self._lock:
            over = days if is_over else days[:-1]
            found = max((one for one in self._kept if _begins(one, first, columns, over)), key=_length, default=None)
            done = len(found.days) if found else 0
            learned = found.learned.with_columns(columns) if found else nothing_learned(columns, first)
            for number in range(done, len(over)):
                learned = learned.after(over[number].row)
                if number + 1 > len(over) - LAST_DAYS_LEARNED or (number + 1) % DAYS_BETWEEN_LEARNED == 0:
                    self._keep(_Kept(first, over[: number + 1], learned))
            return learned if is_over else learned.after(days[-1].row, learn=False)

    def _keep(self, new: _Kept) -> None:
        self._kept = [one for one in self._kept if (one.first, len(one.days)) != (new.first, len(new.days))]
        self._kept = [*self._kept, new][-MOST_LEARNED_KEPT:]


def _length(kept: _Kept) -> int:
    return len(kept.days)


def _begins(kept: _Kept, first: date, columns: Columns, days: Sequence[_Day]) -> bool:
    """Return whether the days begin with those kept, and the catalogue says the same of them."""
    same_days = kept.first == first and len(kept.days) <= len(days) and all(map(is_, kept.days, days))
    before, size = kept.learned.columns, len(kept.learned.columns)
    if not same_days or before is columns:
        return same_days
    if size > len(columns):
        return False
    retired = np.minimum(before.retired, columns.retired[:size])[before.retired != columns.retired[:size]]
    return bool(
        np.array_equal(before.registered, columns.registered[:size])
        and np.array_equal(before.listable, columns.listable[:size])
        and (retired >= kept.learned.day - 1).all()  # the last night that was learned is the one before it
        and np.array_equal(before.traits, columns.traits[:, :size])
        and ((columns.registered[size:] >= kept.learned.day) | (columns.registered[size:] == LONG_AGO)).all()
    )


@dataclass
class _Product:
    popularity: State
    described_by: tuple[State, int] | None = None  # the catalogue, and the patterns that hide probes
    catalogue: Catalogue = EMPTY_CATALOGUE
    columns: dict[ProbeKey, int] = field(default_factory=dict)
    days: dict[date, _Day] = field(default_factory=dict)
    last_read: tuple[object, History] | None = None
    learning: Learning = field(default_factory=Learning)
    _described: tuple[Catalogue, Columns] | None = None

    def change(self, cells: Sequence[asyncpg.Record], now: State) -> None:
        """Update the probes and days that have changed up to now."""
        changed: dict[date, Counts] = {}
        for cell in cells:
            if (day := self.days.get(cell["day"])) is not None:
                [column] = _places([ProbeKey(cell["product"], cell["probe"])], self.columns)
                counts = changed.get(cell["day"])
                counts = day.counts.copy() if counts is None else counts
                if (missing_columns := column + 1 - counts.shape[1]) > 0:
                    counts = np.pad(counts, ((0, 0), (0, missing_columns)))
                counts[:, column] = cell["views"], cell["people"], cell["missing"]
                changed[cell["day"]] = counts
        for date_of, counts in changed.items():
            self.days[date_of] = _Day(now.position, counts)
        self.popularity = now

    def described(self) -> Columns:
        """Return all columns, also of registered probes that nobody has requested."""
        found = self._described
        if found is None or not _describes_alike(found[0], self.catalogue) or len(found[1]) != len(self.columns):
            _places(self.catalogue.registered, self.columns)
            found = self._described = self.catalogue, _describe(list(self.columns), self.catalogue)
        return found[1]


def _describes_alike(one: Catalogue, other: Catalogue) -> bool:
    """Return whether catalogues say the same of probes, but for when they were built."""
    return all(map(is_, one._replace(built=other.built), other))


def _describe(probes: Sequence[ProbeKey], catalogue: Catalogue) -> Columns:
    # Of a product without any registration, unregistered probes may be listed, too.
    listable = [
        key not in catalogue.hidden and (key in catalogue.registered or key.product not in catalogue.products)
        for key in probes
    ]
    may_be_listed = np.array(listable, dtype=np.bool_)
    return columns_of(probes, catalogue.registered, catalogue.types, may_be_listed, catalogue.retired)


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
            described_by = states.of("catalogue"), await hidden_revision(connection)
            revision = described_by[0].revision, described_by[1]
            kept = await self._current(connection, product, popularity)
            asked = first, last, popularity.generation, popularity.position, revision
            if kept.last_read is not None and kept.last_read[0] == asked:
                return kept.last_read[1]
            wanted = [first + timedelta(days=number) for number in range((last - first).days + 1)]
            # With a snapshot older than what is kept, only the days that have changed since are read.
            missing = [day for day in wanted if day not in kept.days or kept.days[day].since > popularity.position]
            days = dict(kept.days)
            for begin in range(0, len(missing), DAYS_A_QUERY):
                part = missing[begin : begin + DAYS_A_QUERY]
                days |= await _read_days(connection, product, part, kept.columns, popularity.position)
                if popularity.position == kept.popularity.position:
                    kept.days = dict(list(days.items())[-MOST_DAYS_KEPT:])
            await _bring_up_to_date(connection, product, kept, *described_by)
            of_days = [days[day] for day in wanted]
            history = History(first, kept.described(), of_days, kept.catalogue.built, kept.learning)
            kept.last_read = asked, history
            return history

    async def read_last(
        self, connection: Connection, product: str | None, days: int, last_day: date
    ) -> DayCounts | None:
        """Return the counts of at most so many days up to `last_day`, or None when there was no request up to then."""
        row = await connection.fetchrow(query("hotlist", "range"), product)
        if row is None or row["first"] is None or row["first"] > last_day:
            return None
        last = min(row["last"], last_day)
        first = max(row["first"], last - timedelta(days=days - 1))
        return (await self.read(connection, product, first, last)).counts(days)

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


async def _read_days(
    connection: Connection, product: str | None, days: Sequence[date], columns: dict[ProbeKey, int], since: int
) -> dict[date, _Day]:
    """Return the counts of the days as of the position `since`; unknown probes get the next columns."""
    read = {day: _Day(since, np.zeros((3, 0), dtype=np.int32)) for day in days}
    viewed: list[date] = await connection.fetchval(query("hotlist", "viewed_days"), days)
    if viewed:
        rows = await connection.fetch(query("hotlist", "days"), product, viewed, viewed[0])
        places = _places([ProbeKey(row["product"], row["probe"]) for row in rows], columns)
        matrices = await asyncio.to_thread(_filled, rows, places, (viewed[-1] - viewed[0]).days + 1, len(columns))
        read |= {day: _Day(since, matrices[(day - viewed[0]).days].copy()) for day in viewed}
    return read


def _filled(rows: Sequence[asyncpg.Record], places: Sequence[int], days: int, columns: int) -> Counts:
    """Return a matrix of counts for each of the days."""
    counts = np.zeros((days, 3, columns), dtype=np.int32)
    for row, place in zip(rows, places, strict=True):
        counts[row["days"], :, place] = np.array([row["views"], row["people"], row["missing"]]).T
    return counts


def _places(keys: Iterable[ProbeKey], columns: dict[ProbeKey, int]) -> list[int]:
    return [columns.setdefault(key, len(columns)) for key in keys]


async def _bring_up_to_date(
    connection: Connection, product: str | None, kept: _Product, now: State, hidden: int
) -> None:
    """Read the catalogue as of now: what has changed since it was read, or all of it."""
    before = kept.described_by
    if before is not None and (before[0].revision, before[1]) == (now.revision, hidden):
        return
    since = None
    if before is not None and (before[0].generation, before[1]) == (now.generation, hidden):
        whole_from: int = await connection.fetchval(query("hotlist", "whole_from"))
        if max(now.position - MOST_BEHIND, whole_from - 1) <= before[0].position <= now.position:
            since = before[0].position
    keys, read = await _read_catalogue(connection, product, since, now.position)
    kept.catalogue = read if since is None else kept.catalogue.with_changed(read, keys)
    kept.described_by = now, hidden


async def _read_catalogue(
    connection: Connection, product: str | None, since: int | None, until: int
) -> tuple[Sequence[ProbeKey], Catalogue]:
    """Return the probes that have changed after a position up to another (None: all), and what is known of them."""
    row = await connection.fetchrow(query("hotlist", "catalogue"), product, since, until)
    if row is None or row["probes"] is None:
        return (), EMPTY_CATALOGUE
    keys = list(map(ProbeKey, row["products"], row["probes"]))
    return keys, Catalogue(
        {key: at.date() for key, at in zip(keys, row["registered"], strict=True) if at},
        {key: kind for key, kind in zip(keys, row["types"], strict=True) if kind},
        {key: at for key, at in zip(keys, row["built"], strict=True) if at},
        {key: at.date() for key, at in zip(keys, row["retired"], strict=True) if at},
        frozenset(key for key, hidden in zip(keys, row["hidden"], strict=True) if hidden),
        frozenset(key.product for key, at in zip(keys, row["registered"], strict=True) if at),
    )
