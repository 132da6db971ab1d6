"""Cells, the answers of the warehouse: a number for each combination and bucket, kept as columns."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.aggregates.probe import Combination
from builder.aggregates.statistics import Floats, Integers
from builder.errors import PermanentBuildError

MOST_CELLS = 5_000_000  # of 33 bytes each, and about as much again while they are sorted
NUMBERS = {"amount": "d", "users": "d", "samples": "q", "weighted": "b"}

_combination = itemgetter(*Combination._fields)
_numbers = itemgetter(*NUMBERS)


@dataclass(frozen=True)
class Cells:
    """The cells of one probe, those of a combination one after the other, combinations in their order.

    `combinations`, `total` (the sum of its amounts), `users` (its total_users), `samples` and `weighted` (whether some
    of its clients stand for several) have one entry for each combination. `starts` has the place of each combination's
    first cell, and at its end the number of cells. Of each cell, `bucket` is a place in `buckets`, `amount` the sum of
    shares or clients in it, `counts` the raw count.
    """

    buckets: list[Any]
    combinations: list[Combination]
    starts: Integers
    bucket: NDArray[np.int32]
    amount: Floats
    counts: Integers
    total: Floats
    users: Integers
    samples: Integers
    weighted: NDArray[np.bool_]


def cells_by_probe(
    rows: Iterable[Mapping[str, Any]], probes: int, most: int = MOST_CELLS
) -> Iterator[Cells | PermanentBuildError]:
    """Yield the cells of each of so many probes, in whose order the rows are, or the error of `read_cells`.

    The rows of a probe are taken when its turn comes: no more than those of one are in memory.
    """
    by_probe = groupby(rows, key=itemgetter("probe"))
    coming = next(by_probe, None)
    for place in range(probes):
        if coming is None or coming[0] > place:
            yield read_cells(())
        elif coming[0] == place:
            yield _read_or_refused(coming[1], most)
            coming = next(by_probe, None)  # passes over what was not read of this one
        else:
            raise ValueError(f"the cells of probe {coming[0]} came after those of {place - 1}")


def _read_or_refused(rows: Iterable[Mapping[str, Any]], most: int) -> Cells | PermanentBuildError:
    try:
        return read_cells(rows, most)
    except PermanentBuildError as error:
        return error


def read_cells(rows: Iterable[Mapping[str, Any]], most: int = MOST_CELLS) -> Cells:
    """Return the cells in rows of distribution.sql, scalar.sql or boolean.sql, which are all of one probe.

    A row without a version only says that its bucket exists. Raise PermanentBuildError for more than `most` cells.
    """
    collected = _Collected()
    for number, row in enumerate(rows, 1):
        collected.take(row)
        if number > most:
            raise PermanentBuildError("resultTooLarge", f"there are more than {most:,} values to show")
    return collected.cells()


class _Collected:
    """The cells of one probe in the order of their arrival."""

    def __init__(self) -> None:
        self._places: dict[Combination, int] = {}
        self._buckets: dict[Any, int] = {}
        self._owner, self._bucket = array("i"), array("i")
        self._columns = {name: array(code) for name, code in NUMBERS.items()}
        self._appends = [column.append for column in self._columns.values()]

    def take(self, row: Mapping[str, Any]) -> None:
        place = self._buckets.setdefault(row["bucket"], len(self._buckets))
        if row["version"] is None:
            return
        self._bucket.append(place)
        self._owner.append(self._places.setdefault(Combination._make(_combination(row)), len(self._places)))
        for append, value in zip(self._appends, _numbers(row), strict=True):
            append(value)

    def cells(self) -> Cells:
        owner, bucket = np.array(self._owner), np.array(self._bucket)
        return _in_order(self._places, list(self._buckets), owner, bucket, self._columns)


def _in_order(
    places: Mapping[Combination, int],
    buckets: list[Any],
    owner: NDArray[np.int32],
    bucket: NDArray[np.int32],
    columns: Mapping[str, array[Any]],
) -> Cells:
    combinations = sorted(places)
    rank = np.empty(len(places), dtype=np.int32)
    rank[[places[combination] for combination in combinations]] = np.arange(len(places))
    owner = rank[owner]
    order = np.argsort(owner, kind="stable")
    starts = np.searchsorted(owner[order], np.arange(len(places) + 1))
    cells = {name: np.array(column)[order] for name, column in columns.items()}
    sums = {name: np.add.reduceat(cells[name], starts[:-1]) for name in ("amount", "users", "samples")}
    return Cells(
        buckets=buckets,
        combinations=combinations,
        starts=starts,
        bucket=bucket[order],
        amount=cells["amount"],
        counts=cells["samples"],
        total=np.rint(sums["amount"]),
        users=np.rint(sums["users"]).astype(np.int64),
        samples=sums["samples"],
        weighted=np.logical_or.reduceat(cells["weighted"], starts[:-1]),
    )
