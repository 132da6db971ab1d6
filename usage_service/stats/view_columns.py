"""Whose views a column counts: a probe's, of people or of bots, in a channel."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from usage_service.probe_keys import Ints, ProbeKey, ranks_of
from usage_service.queries import query
from usage_service.shared.postgres import Connection


class Cell(NamedTuple):
    """Whose views are counted together; `channel` is '' where the events named none."""

    key: ProbeKey
    bot: bool
    channel: str


Made = TypeVar("Made")
Asked = TypeVar("Asked", bound=Hashable)
MOST_MADE = 8


@dataclass(frozen=True)
class Described:
    """The first so many columns: the probes that they are of, each once, and what is chosen by."""

    cells: Sequence[Cell]
    probes: Sequence[ProbeKey]
    places: Mapping[ProbeKey, int]  # that of each probe in `probes`
    probe_of: Ints  # the place of a column's probe in `probes`
    ranks: Ints  # the place of each probe in the order of names
    _made: dict[Hashable, Any] = field(default_factory=dict)

    def kept(self, make: Callable[[Sequence[Cell], Asked], Made], asked: Asked) -> Made:
        """What `make` makes of the columns for who asks so, made once."""
        if (make, asked) not in self._made:
            if len(self._made) >= MOST_MADE:
                self._made.clear()
            self._made[make, asked] = make(self.cells, asked)
        made: Made = self._made[make, asked]
        return made

    def chosen(self, product: str | None, channel: str | None, *, bots: bool) -> npt.NDArray[np.bool_]:
        """The columns of a product or all, a channel or all, with or without bots."""
        return self.kept(_chosen, (product, channel, bots))


class Columns:
    """All columns: they are only ever added to, so who has fewer has the first ones."""

    def __init__(self) -> None:
        self._places: dict[tuple[int, str], int] = {}
        self._names: dict[int, tuple[ProbeKey, bool]] = {}
        self._cells: list[Cell] = []
        self._described = describe(())

    def __len__(self) -> int:
        return len(self._cells)

    async def find(self, connection: Connection, series: Sequence[int], channels: Sequence[str]) -> list[int]:
        """The columns of these series in these channels; names that are new are read through the connection."""
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

    def described(self) -> Described:
        """All that there are now."""
        if len(self._described.cells) != len(self._cells):
            self._described = describe(tuple(self._cells))
        return self._described


def describe(cells: Sequence[Cell]) -> Described:
    """These columns."""
    places = {key: place for place, key in enumerate(dict.fromkeys(cell.key for cell in cells))}
    probe_of = np.fromiter((places[cell.key] for cell in cells), np.int64, len(cells))
    return Described(cells, list(places), places, probe_of, ranks_of(list(places)))


def _chosen(cells: Sequence[Cell], asked: tuple[str | None, str | None, bool]) -> npt.NDArray[np.bool_]:
    product, channel, bots = asked
    wanted = (
        (product is None or cell.key.product == product)
        and (channel is None or cell.channel == channel)
        and (bots or not cell.bot)
        for cell in cells
    )
    return np.fromiter(wanted, np.bool_, len(cells))
