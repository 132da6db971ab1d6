"""Request counts by probe and day, as matrices: the input of the hot list and its backtest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property
from typing import NamedTuple

import numpy as np

from usage_service.probe_keys import Counts, Floats, Ints, ProbeKey, ranks_of

LONG_AGO = -1_000_000  # row of an unknown registration


@dataclass(frozen=True)
class DayCounts:
    """Requests of people (not of bots): a row for each day from `first` on, a column for each probe.

    `views` are requests, `people` the distinct visitors of the day (unknown visitors are not counted), `missing` the
    requests for data that was not there. `registered` has the row of the day on which a probe was first registered; it
    may lie before or after the rows. `ranks` has the probe's place in the order of names, which decides between equals.
    """

    first: date
    probes: Sequence[ProbeKey]
    views: Counts
    people: Counts
    missing: Counts
    registered: Ints
    ranks: Ints

    @cached_property
    def weighted_views(self) -> Floats:
        """Return the geometric mean of requests and people for each day and probe.

        Requests alone would rank highly what one person reloads; people alone would not count those who come back on
        purpose. Unknown visitors of a day count as one person.
        """
        people = np.maximum(self.people, self.views > 0)
        return np.asarray(np.sqrt(self.views * people.astype(np.float64)))

    @property
    def days(self) -> int:
        """Return the number of days."""
        return int(self.views.shape[0])

    def day(self, row: int) -> date:
        """Return the day of a row, also of one after the last."""
        return self.first + timedelta(days=row)

    def between(self, begin: int, end: int) -> DayCounts:
        """Return the rows from `begin` to `end`, which is excluded, as views of the same arrays."""
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


class ProbeDay(NamedTuple):
    """Requests for one probe on one day; the fields are as in DayCounts."""

    day: date
    key: ProbeKey
    views: int
    people: int
    missing: int


def counts_of(probe_days: Sequence[ProbeDay], registered: dict[ProbeKey, date], first: date, days: int) -> DayCounts:
    """Return the counts of the `days` days from `first` on, with a column for every requested or registered probe."""
    probes = sorted({one.key for one in probe_days} | registered.keys())
    columns = {key: number for number, key in enumerate(probes)}
    rows = np.array([(one.day - first).days for one in probe_days], dtype=np.int64)
    places = np.array([columns[one.key] for one in probe_days], dtype=np.int64)
    views, people, missing = (np.zeros((days, len(probes)), dtype=np.int32) for _ in range(3))
    for matrix, name in ((views, "views"), (people, "people"), (missing, "missing")):
        np.add.at(matrix, (rows, places), np.array([getattr(one, name) for one in probe_days], dtype=np.int32))
    on = registrations(probes, registered)
    since = np.where(on == LONG_AGO, LONG_AGO, on - first.toordinal())
    return DayCounts(first, probes, views, people, missing, since, ranks_of(probes))


def registrations(probes: Sequence[ProbeKey], registered: dict[ProbeKey, date]) -> Ints:
    """Return the number (`toordinal`) of each probe's day of registration, or LONG_AGO."""
    on = [registered[key].toordinal() if key in registered else LONG_AGO for key in probes]
    return np.array(on, dtype=np.int64)
