"""Columns of the view counts: each counts the views of one probe, by people or by bots, in one channel."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from usage_service.probe_keys import Ints, ProbeKey, ranks_of
from usage_service.queries import query
from usage_service.shared.postgres import Connection


class Cell(NamedTuple):
    """Key of a column: its probe, bots or people, and its channel ('' for events that named none)."""

    key: ProbeKey
    bot: bool
    channel: str


Made = TypeVar("Made")
Asked = TypeVar("Asked", bound=Hashable)
MOST_CACHED = 64  # of a hundred kilobytes each, where there are ten thousand columns


@dataclass(frozen=True)
class ColumnIndex:
    """Index of the first columns, as many as there were when it was made: their probes, each once, and choices."""

    cells: Sequence[Cell]
    probes: Sequence[ProbeKey]
    places: Mapping[ProbeKey, int]  # the place of each probe in `probes`
    probe_of: Ints  # the place in `probes` of each column's probe
    ranks: Ints  # the place of each probe in the order of names
    _cache: dict[Hashable, Any] = field(default_factory=dict)

    def cached(self, make: Callable[[Sequence[Cell], Asked], Made], asked: Asked) -> Made:
        """Return `make(cells, asked)`, computed once for each `make` and `asked` while it is cached; in any thread."""
        kept = self._cache.get((make, asked))
        made: Made = make(self.cells, asked) if kept is None else kept
        if kept is None:
            if len(self._cache) >= MOST_CACHED:
                self._cache.clear()
            self._cache[make, asked] = made
        return made

    def chosen(self, product: str | None, channel: str | None, *, bots: bool) -> Ints:
        """Return the columns of a product (None: all) and a channel (None: all), with or without bots, ascending."""
        return self.cached(_chosen, (product, channel, bots))


class Columns:
    """Columns that there are. They are only ever added to, so an index with fewer of them has the first ones."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, str], int] = {}
        self._names: dict[int, tuple[ProbeKey, bool]] = {}
        self._cells: list[Cell] = []
        self._index = index_of(())

    def __len__(self) -> int:
        return len(self._cells)

    async def find(self, connection: Connection, series: Sequence[int], channels: Sequence[str]) -> list[int]:
        """Return the columns of these series in these channels; names of new series are read through the connection."""
        unknown = set(series) - self._names.keys()
        if unknown:
            rows = await connection.fetch(query("view_counts", "named"), list(unknown))
            self._names |= {row["series"]: (ProbeKey(row["product"], row["probe"]), row["bot"]) for row in rows}
        return [self._place(pair) for pair in zip(series, channels, strict=True)]

    def _place(self, pair: tuple[int, str]) -> int:
        place = self._places.setdefault(pair, len(self._cells))
        if place == len(self._cells):
            series, channel = pair
            self._cells.append(Cell(*self._names[series], channel))
        return place

    def index(self) -> ColumnIndex:
        """Return the index of all columns that there are now."""
        if len(self._index.cells) != len(self._cells):
            self._index = index_of(tuple(self._cells))
        return self._index


def index_of(cells: Sequence[Cell]) -> ColumnIndex:
    """Return the index of these columns."""
    places = {key: place for place, key in enumerate(dict.fromkeys(cell.key for cell in cells))}
    probe_of = np.fromiter((places[cell.key] for cell in cells), np.int64, len(cells))
    return ColumnIndex(cells, list(places), places, probe_of, ranks_of(list(places)))


def _chosen(cells: Sequence[Cell], asked: tuple[str | None, str | None, bool]) -> Ints:
    product, channel, bots = asked
    wanted = (
        (product is None or cell.key.product == product)
        and (channel is None or cell.channel == channel)
        and (bots or not cell.bot)
        for cell in cells
    )
    return np.flatnonzero(np.fromiter(wanted, np.bool_, len(cells)))
