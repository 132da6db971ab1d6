"""The rows of a probe, made from its cells a few at a time, anew in each iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TypeVar

import numpy as np

from builder.aggregates.bucket_list import BucketList
from builder.aggregates.cells import Cells
from builder.aggregates.json_texts import count_texts, percentile_texts, share_texts
from builder.aggregates.probe import ANY, ProbeRow
from builder.aggregates.statistics import Floats, Integers, smoothed, ten_thousandths

VALUES_AT_ONCE = 500_000
Values = TypeVar("Values", Floats, Integers)


@dataclass(frozen=True)
class Layout:
    """The way from cells to histograms.

    `buckets` returns the buckets of a metric key; `columns` has the place of each of the cells' buckets among them, -1
    where it is none of them. `raw`: whether there is a histogram of the raw counts beside the smoothed one; else the
    two are the same.
    """

    metric_type: str
    buckets: Callable[[str], BucketList]
    columns: Integers
    raw: bool

    @classmethod
    def shared(cls, metric_type: str, buckets: BucketList, cells: Cells, *, raw: bool) -> Layout:
        """Return the layout of cells whose metric keys all have the same buckets."""
        columns = np.array([buckets.places.get(key, -1) for key in cells.buckets], dtype=np.int64)
        return cls(metric_type, lambda _: buckets, columns, raw)


@dataclass(frozen=True)
class ProbeRows:
    """The rows of a probe, in the order of their combinations.

    `weight`: how many clients a sampled client stands for. `only_ping`: the one ping type that carries the probe, if
    there is only one; its rows are then those of all ping types together.
    """

    cells: Cells
    layout: Layout
    weight: int
    only_ping: str | None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.cells.combinations) * (2 if self.only_ping else 1)

    def __iter__(self) -> Iterator[ProbeRow]:
        """Make the rows, some at a time."""
        samples = self._samples()
        for buckets, first, last in self._batches():
            for row in self._made(buckets, first, last, samples):
                yield row
                if self.only_ping:
                    yield row._replace(ping_type=self.only_ping)

    def _samples(self) -> list[int]:
        """Return the total_sample of each combination: that of all ping types, weighted as a whole."""
        cells = self.cells
        weighted = cells.samples * np.where(cells.weighted, self.weight, 1)
        places = {combination: place for place, combination in enumerate(cells.combinations)}
        everywhere = [places[combination._replace(ping_type=ANY)] for combination in cells.combinations]
        return [int(samples) for samples in weighted[everywhere]]

    def _batches(self) -> Iterator[tuple[BucketList, int, int]]:
        """Yield a bucket list with the range of combinations, from the first to before the last, that share it."""
        keys = [combination.metric_key for combination in self.cells.combinations]
        last = 0
        for key, members in groupby(keys):
            first, last = last, last + sum(1 for _ in members)
            buckets = self.layout.buckets(key)
            step = max(1, VALUES_AT_ONCE // max(1, len(buckets.keys)))
            for start, end in pairwise([*range(first, last, step), last]):
                yield buckets, start, end

    def _made(self, buckets: BucketList, first: int, last: int, samples: list[int]) -> Iterator[ProbeRow]:
        cells, place = self.cells, slice(first, last)
        amounts = self._filled(cells.amount, buckets, first, last)
        shares = ten_thousandths(smoothed(amounts, cells.total[place], buckets.prior))
        texts = [share_texts(shares, buckets), percentile_texts(shares, buckets)]
        if self.layout.raw:
            counts = self._filled(cells.counts, buckets, first, last)
            texts += [count_texts(counts, buckets), percentile_texts(counts, buckets)]
        users = cells.users[place].tolist()
        for about, number, sampled, *four in zip(cells.combinations[place], users, samples[place], *texts, strict=True):
            yield ProbeRow(
                version=about.version,
                ping_type=about.ping_type,
                os=about.os,
                app_build_id=about.build_hour,
                metric_type=self.layout.metric_type,
                metric_key=about.metric_key,
                client_agg_type=about.client_agg_type,
                total_users=number,
                total_sample=sampled,
                histogram=four[0],
                percentiles=four[1],
                non_norm_histogram=four[-2],
                non_norm_percentiles=four[-1],
                build_date=about.build_date,
            )

    def _filled(self, values: Values, buckets: BucketList, first: int, last: int) -> Values:
        """Return the values of the cells, a row a combination and a column a bucket; 0 where there is no cell."""
        cells = slice(self.cells.starts[first], self.cells.starts[last])
        sizes = np.diff(self.cells.starts[first : last + 1])
        columns = self.layout.columns[self.cells.bucket[cells]]
        filled = np.zeros((last - first, len(buckets.keys)), dtype=values.dtype)
        inside = columns >= 0
        rows = np.repeat(np.arange(last - first), sizes)
        filled[rows[inside], columns[inside]] = values[cells][inside]
        return filled
