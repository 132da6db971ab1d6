"""Distributions: from the sums of each bucket to rows, over all roll-ups."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.buckets import round_half_up
from builder.histogram import cast_json, fill_buckets, fill_buckets_dirichlet, percentiles
from builder.metric_shapes import MetricShape
from builder.probe import ClientGroup, Combination, ProbeRow
from builder.sample_counts import SampleCounts

CLIENT_AGG_TYPE = "summed_histogram"
NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)


@dataclass(frozen=True)
class Cell:
    """Of one combination: shares and samples of each bucket, and last those of keys that are no bucket."""

    shares: NDArray[np.float64]
    samples: NDArray[np.int64]

    @classmethod
    def empty(cls, buckets: int) -> "Cell":
        """All zero."""
        return cls(np.zeros(buckets + 1), np.zeros(buckets + 1, dtype=np.int64))

    def add(self, other: "Cell") -> None:
        """Count the other's clients too."""
        np.add(self.shares, other.shares, out=self.shares)
        np.add(self.samples, other.samples, out=self.samples)


class DistributionTable:
    """The cells of one probe. Shares and samples add up, so the roll-ups are made last, from the sums."""

    def __init__(self, sums: Iterable[Mapping[str, Any]], shape: MetricShape, windows_weight: int) -> None:
        """`sums` are the rows of distribution.sql."""
        rows = list(sums)
        largest = max((bucket_number(row["bucket"]) for row in rows), default=-1)
        self.buckets = [str(bucket) for bucket in shape.buckets(largest)]
        self.samples = SampleCounts(windows_weight)
        self._places = {bucket: place for place, bucket in enumerate(self.buckets)}
        self.cells = self._rolled_up(self._leaves(rows))

    def _leaves(self, rows: list[Mapping[str, Any]]) -> dict[tuple[ClientGroup, bool], Cell]:
        leaves: dict[tuple[ClientGroup, bool], Cell] = {}
        for row in rows:
            group = ClientGroup(row["version"], row["ping_type"], row["os"], row["build_hour"])
            key = (group, row["large_enough"])
            cell = leaves.get(key) or leaves.setdefault(key, Cell.empty(len(self.buckets)))
            place = self._places.get(row["bucket"], len(self.buckets))
            cell.shares[place] += row["share"]
            cell.samples[place] += row["samples"]
        return leaves

    def _rolled_up(self, leaves: Mapping[tuple[ClientGroup, bool], Cell]) -> dict[Combination, Cell]:
        cells: dict[Combination, Cell] = {}
        for (group, large_enough), cell in leaves.items():
            self.samples.add(group, int(cell.samples.sum()))
            for combination in group.roll_ups(by_build=large_enough):
                cells.setdefault(combination, Cell.empty(len(self.buckets))).add(cell)
        return cells

    def rows(self, metric_type: str, minimum_users: int) -> Iterator[ProbeRow]:
        """The rows with more users than the minimum."""
        for combination, cell in self.cells.items():
            users = round_half_up(float(cell.shares.sum()))
            if users > minimum_users:
                yield self._row(metric_type, combination, cell, users)

    def _row(self, metric_type: str, combination: Combination, cell: Cell, users: int) -> ProbeRow:
        shares = dict(zip(self.buckets, cell.shares.tolist(), strict=False))
        samples = dict(zip(self.buckets, cell.samples.tolist(), strict=False))
        smoothed = fill_buckets_dirichlet(shares, self.buckets, users)
        raw = fill_buckets(samples, self.buckets)
        return ProbeRow(
            version=combination.version,
            ping_type=combination.ping_type,
            os=combination.os,
            app_build_id=combination.build_hour,
            metric_type=metric_type,
            metric_key="",
            client_agg_type=CLIENT_AGG_TYPE,
            total_users=users,
            total_sample=self.samples.total(combination),
            histogram=cast_json(smoothed),
            percentiles=cast_json(percentiles(smoothed)),
            non_norm_histogram=cast_json(raw),
            non_norm_percentiles=cast_json(percentiles(raw)),
            build_date=combination.build_date,
        )


def bucket_number(key: str) -> int:
    """The lower bound that a key stands for; -1 for a key that is no number."""
    return int(key) if NUMBER.fullmatch(key) else -1
