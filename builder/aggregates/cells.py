"""Cells, the answers of the warehouse: a number for each combination and bucket, kept as columns."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count, groupby
from operator import itemgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.aggregates.probe import Combination
from builder.aggregates.statistics import Floats, Integers
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.bigquery.pages import Page

MOST_CELLS = 5_000_000  # of 20 bytes each, and about as much again while they are sorted


@dataclass(frozen=True)
class Cells:
    """The cells of one probe, those of a combination one after the other, combinations in their order.

    `combinations`, `total` (the sum of its amounts), `users` (its total_users), `samples` and `weighted` (whether some
    of its clients stand for several) have one entry for each combination. `starts` has the place of each combination's
    first cell, and at its end the number of cells. Of each cell, `bucket` is a place in `buckets`, `amount` the sum of
    shares or clients in it, `counts` the raw count. `ranges` has the smallest and largest value of each metric key of a
    scalar.
    """

    buckets: list[str]
    combinations: list[Combination]
    starts: Integers
    bucket: NDArray[np.int32]
    amount: Floats
    counts: Integers
    total: Floats
    users: Integers
    samples: Integers
    weighted: NDArray[np.bool_]
    ranges: Mapping[str, tuple[float, float]]


def cells_by_probe(pages: Iterable[Page], probes: int, most: int = MOST_CELLS) -> Iterator[Cells | PermanentWorkError]:
    """Yield the cells of each of so many probes, in whose order the rows are, or the error of `read_cells`.

    The pages of a probe are taken when its turn comes: no more than those of one are in memory.
    """
    by_probe = groupby(_parts(pages), key=itemgetter(0))
    coming = next(by_probe, None)
    for place in range(probes):
        if coming is None or coming[0] > place:
            yield read_cells(())
        elif coming[0] == place:
            yield _read_or_refused((page for _, page in coming[1]), most)
            coming = next(by_probe, None)  # passes over what was not read of this one
        else:
            raise ValueError(f"the cells of probe {coming[0]} came after those of {place - 1}")


def _parts(pages: Iterable[Page]) -> Iterator[tuple[int, Page]]:
    """Yield what a page has of each probe, with the probe's number."""
    for page in pages:
        last = 0
        for probe, members in groupby(page["probe"]):
            first, last = last, last + sum(1 for _ in members)
            yield probe, {name: values[first:last] for name, values in page.items()}


def _read_or_refused(pages: Iterable[Page], most: int) -> Cells | PermanentWorkError:
    try:
        return read_cells(pages, most)
    except PermanentWorkError as error:
        return error


def read_cells(pages: Iterable[Page], most: int = MOST_CELLS) -> Cells:
    """Return the cells in results of distribution.sql, scalar.sql or boolean.sql, which are all of one probe.

    A row without a version says which buckets there are, or, with a metric key, between which numbers its values lie.
    Raise PermanentWorkError for more than `most` cells.
    """
    collected = _Collected()
    for page in pages:
        collected.take(page, most)
    return collected.cells()


class _Collected:
    """The rows of one probe in the order of their arrival."""

    def __init__(self) -> None:
        # Of buckets: a new one gets the next number.
        self._places: defaultdict[str, int] = defaultdict(count().__next__)
        self._bucket, self._amount, self._counts = array("i"), array("d"), array("q")
        self._combinations: list[Combination] = []
        self._rows: dict[str, list[Any]] = {name: [] for name in ("size", "users", "samples", "weighted")}
        self._ranges: dict[str, tuple[float, float]] = {}

    def take(self, page: Page, most: int) -> None:
        about = map(Combination._make, zip(*(page[name] for name in Combination._fields), strict=True))
        totals = zip(page["users"], page["samples"], page["weighted"], strict=True)
        for version, combination, text, total in zip(page["version"], about, page["cells"], totals, strict=True):
            counts, amounts, buckets = zip(*(cell.split(" ", 2) for cell in text.split("\0")), strict=True)
            if version is None:
                self._note(combination.metric_key, amounts, buckets)
                continue
            self._combinations.append(combination)
            self._bucket.extend(map(self._places.__getitem__, buckets))
            self._amount.extend(map(float, amounts))
            self._counts.extend(map(int, counts))
            for values, value in zip(self._rows.values(), (len(buckets), *total), strict=True):
                values.append(value)
            if len(self._bucket) > most:
                raise PermanentWorkError("resultTooLarge", f"there are more than {most:,} values to show")

    def _note(self, metric_key: str | None, amounts: Iterable[str], buckets: Iterable[str]) -> None:
        """Note the buckets that there are, or the ends of a metric key's range."""
        if metric_key is None:
            for bucket in buckets:
                self._places[bucket]
        else:
            smallest, largest = map(float, amounts)
            self._ranges[metric_key] = (smallest, largest)

    def cells(self) -> Cells:
        """Return the cells, the combinations in their order."""
        order = sorted(range(len(self._combinations)), key=self._combinations.__getitem__)
        sizes = np.array(self._rows["size"], dtype=np.int64)
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        of_cells = np.argsort(np.repeat(rank, sizes), kind="stable")
        starts = np.concatenate(([0], np.cumsum(sizes[order])))
        amount = np.array(self._amount)[of_cells]
        return Cells(
            buckets=list(self._places),
            combinations=[self._combinations[place] for place in order],
            starts=starts,
            bucket=np.array(self._bucket)[of_cells],
            amount=amount,
            counts=np.array(self._counts)[of_cells],
            total=np.rint(np.add.reduceat(amount, starts[:-1])),
            users=np.rint(np.array(self._rows["users"], dtype=np.float64)[order]).astype(np.int64),
            samples=np.array(self._rows["samples"], dtype=np.int64)[order],
            weighted=np.array(self._rows["weighted"], dtype=np.bool_)[order],
            ranges=self._ranges,
        )
