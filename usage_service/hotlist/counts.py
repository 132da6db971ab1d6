"""Request counts by probe and day, as matrices: the input of the hot list and its backtest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from usage_service.probe_keys import Counts, Ints, ProbeKey, ranks_of

LONG_AGO = -1_000_000  # day of an unknown registration
NEVER = 1_000_000  # day of what has not happened
Bools: TypeAlias = npt.NDArray[np.bool_]
_WORDS_END = re.compile(r"[._]")


@dataclass(frozen=True)
class Columns:
    """Columns of matrices: the probes, and what the catalogue knows of them.

    `registered` has the number (`toordinal`) of the day on which a probe was first registered, or LONG_AGO. `ranks` has
    the probe's place in the order of names, which decides between equals. Only `listable` probes may be on a list, and
    only until the night after the day on which they were `retired` (NEVER for others).
    `traits` has codes for what probes have in common, a row each: the first word of the name, the first two, the type.
    """

    probes: Sequence[ProbeKey]
    registered: Ints
    ranks: Ints
    listable: Bools
    retired: Ints
    traits: Ints

    def __len__(self) -> int:
        """Return the number of probes."""
        return len(self.probes)

    def listable_at(self, day: int) -> Bools:
        """Return which probes may be on the list that is made the night before a day (`toordinal`).

        A night knows what was retired before it: what is retired later changes no night that is over.
        """
        return np.asarray(self.listable & (self.retired >= day))


def columns_of(
    probes: Sequence[ProbeKey],
    registered: Mapping[ProbeKey, date],
    types: Mapping[ProbeKey, str] | None = None,
    listable: Bools | None = None,
    retired: Mapping[ProbeKey, date] | None = None,
) -> Columns:
    """Return the columns of the probes, in their order; without `listable` all may be listed."""
    on = [registered[key].toordinal() if key in registered else LONG_AGO for key in probes]
    words = [_WORDS_END.split(key.probe, maxsplit=2) for key in probes]
    traits = [
        _codes([(key.product, *own[:1]) for key, own in zip(probes, words, strict=True)]),
        _codes([(key.product, *own[:2]) for key, own in zip(probes, words, strict=True)]),
        _codes([(types or {}).get(key) for key in probes]),
    ]
    every = np.ones(len(probes), dtype=np.bool_)
    return Columns(
        probes,
        np.array(on, dtype=np.int64),
        ranks_of(probes),
        every if listable is None else listable,
        np.array([retired[key].toordinal() if key in retired else NEVER for key in probes], dtype=np.int64)
        if retired
        else np.full(len(probes), NEVER),
        np.array(traits, dtype=np.int64).reshape(len(traits), len(probes)),
    )


def _codes(names: Sequence[object]) -> list[int]:
    """Return a number for each different name, in the order in which they appear."""
    found: dict[object, int] = {}
    return [found.setdefault(name, len(found)) for name in names]


class DayRow(NamedTuple):
    """Requests of people (not of bots) on a day, an entry for each of the first columns; there are none for the others.

    `views` are requests, `people` the distinct visitors of the day (unknown visitors are not counted), `missing` the
    requests for data that was not there.
    """

    views: Counts
    people: Counts
    missing: Counts

    def padded(self, columns: int) -> DayRow:
        """Return the row with an entry for each column."""
        more = columns - len(self.views)
        return DayRow(*(np.pad(part, (0, more)) for part in self)) if more else self


@dataclass(frozen=True)
class DayCounts:
    """Requests of people, as in DayRow: a row for each day from `first` on, a column for each probe."""

    first: date
    columns: Columns
    views: Counts
    people: Counts
    missing: Counts

    @property
    def probes(self) -> Sequence[ProbeKey]:
        """Return the probes, in the order of columns."""
        return self.columns.probes

    @property
    def ranks(self) -> Ints:
        """Return each probe's place in the order of names."""
        return self.columns.ranks

    @property
    def days(self) -> int:
        """Return the number of days."""
        return int(self.views.shape[0])

    def day(self, row: int) -> date:
        """Return the day of a row, also of one after the last."""
        return self.first + timedelta(days=row)

    def rows(self) -> Iterator[DayRow]:
        """Return the days, one after the other."""
        return map(DayRow, self.views, self.people, self.missing)

    def between(self, begin: int, end: int) -> DayCounts:
        """Return the rows from `begin` to `end`, which is excluded, as views of the same arrays."""
        begin, end = max(0, begin), min(end, self.days)
        rows = slice(begin, end)
        return DayCounts(self.day(begin), self.columns, self.views[rows], self.people[rows], self.missing[rows])


class ProbeDay(NamedTuple):
    """Requests for one probe on one day; the fields are as in DayRow."""

    day: date
    key: ProbeKey
    views: int
    people: int
    missing: int


def counts_of(
    probe_days: Sequence[ProbeDay],
    registered: Mapping[ProbeKey, date],
    first: date,
    days: int,
    types: Mapping[ProbeKey, str] | None = None,
) -> DayCounts:
    """Return the counts of the `days` days from `first` on, with a column for every requested or registered probe."""
    probes = sorted({one.key for one in probe_days} | registered.keys())
    places = {key: number for number, key in enumerate(probes)}
    rows = np.array([(one.day - first).days for one in probe_days], dtype=np.int64)
    columns = np.array([places[one.key] for one in probe_days], dtype=np.int64)
    views, people, missing = (np.zeros((days, len(probes)), dtype=np.int32) for _ in range(3))
    for matrix, name in ((views, "views"), (people, "people"), (missing, "missing")):
        np.add.at(matrix, (rows, columns), np.array([getattr(one, name) for one in probe_days], dtype=np.int32))
    return DayCounts(first, columns_of(probes, registered, types), views, people, missing)
