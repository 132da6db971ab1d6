"""Requests a probe and day, as matrices: what the hot list and its backtest are reckoned from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np

from usage_service.probe_keys import Counts, Floats, Ints, ProbeKey, ranks_of

LONG_AGO = -1_000_000  # the row of a registration that is not known


@dataclass(frozen=True)
class DayCounts:
    """What people asked for, bots left out: a row a day from `first` on, a column a probe.

    `views` are requests, `people` the distinct visitors of the day (who is not known is not counted), `missing` the
    requests of data that was not there. `registered` has the row of the day that a probe was first registered on, which
    may lie before or after the rows; `ranks` its place in the order of names, which decides between equals.
    """

    first: date
    probes: Sequence[ProbeKey]
    views: Counts
    people: Counts
    missing: Counts
    registered: Ints
    ranks: Ints

    @cached_property
    def looks(self) -> Floats:
        """The geometric mean of requests and people, so that who reloads counts ever less.

        Requests alone rank what one person reloads, people alone lose who comes back on purpose; of a day's visitors
        who are not known at least one is a person.
        """
        people = np.maximum(self.people, self.views > 0)
        return np.asarray(np.sqrt(self.views * people.astype(np.float64)))

    @property
    def days(self) -> int:
        """How many days there are."""
        return int(self.views.shape[0])

    def day(self, row: int) -> date:
        """The day of a row, also of one that is yet to come."""
        return self.first + timedelta(days=row)

    def between(self, begin: int, end: int) -> DayCounts:
        """The rows from `begin` to `end`, which is excluded; the same numbers, not copied."""
        begin, end = max(0, begin), min(end, self.days)
        if (begin, end) == (0, self.days):
            return self
        rows = slice(begin, end)
        return replace(
            self,
            first=self.day(begin),
            views=self.views[rows],
            people=self.people[rows],
            missing=self.missing[rows],
            registered=self.registered - begin,
        )


class Seen(NamedTuple):
    """One probe on one day."""

    day: date
    key: ProbeKey
    views: int
    people: int
    missing: int


def counts_of(seen: Sequence[Seen], registered: dict[ProbeKey, date], first: date, days: int) -> DayCounts:
    """The matrices of what was seen on the `days` days from `first` on, with every registered probe."""
    probes = sorted({one.key for one in seen} | registered.keys())
    columns = {key: number for number, key in enumerate(probes)}
    rows = np.array([(one.day - first).days for one in seen], dtype=np.int64)
    places = np.array([columns[one.key] for one in seen], dtype=np.int64)
    views, people, missing = (np.zeros((days, len(probes)), dtype=np.int32) for _ in range(3))
    for matrix, name in ((views, "views"), (people, "people"), (missing, "missing")):
        np.add.at(matrix, (rows, places), np.array([getattr(one, name) for one in seen], dtype=np.int32))
    on = registrations(probes, registered)
    since = np.where(on == LONG_AGO, LONG_AGO, on - first.toordinal())
    return DayCounts(first, probes, views, people, missing, since, ranks_of(probes))


def registrations(probes: Sequence[ProbeKey], registered: dict[ProbeKey, date]) -> Ints:
    """The number (`toordinal`) of each probe's day of registration, or LONG_AGO."""
    on = [registered[key].toordinal() if key in registered else LONG_AGO for key in probes]
    return np.array(on, dtype=np.int64)
