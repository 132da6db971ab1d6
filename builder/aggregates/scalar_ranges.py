"""The range of a scalar's values, of each label its own, and the buckets that GLAM makes of this range."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from builder.aggregates.bucket_list import BucketList

SCALAR_BUCKETS = 100


class ScalarRanges:
    """The smallest and the largest value of each metric key of each probe, by its number."""

    def __init__(self) -> None:
        """Begin without any; they come with the cells."""
        self._ranges: dict[tuple[int, str], tuple[float, float]] = {}

    def noted(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
        """Note the ranges among the rows of scalar.sql, and yield the others."""
        for row in rows:
            if row["version"] is None and row["metric_key"] is not None:
                self._ranges[row["probe"], row["metric_key"]] = (row["amount"], row["users"])
            else:
                yield row

    def buckets(self, probe: int, metric_key: str) -> BucketList:
        """Return the buckets of a metric key: each once, and smoothed as if those of equal bounds were apart."""
        bounds = scalar_buckets_between(*self._ranges[probe, metric_key])
        return BucketList(tuple(dict.fromkeys(bounds)), smoothed_over=len(bounds))


def scalar_buckets_between(smallest: float, largest: float) -> list[str]:
    """Return the buckets of a scalar whose values lie between the two; a bound of 0 or less counts as 1."""
    return scalar_buckets(_log2_or_zero(smallest), _log2_or_zero(largest))


def scalar_buckets(log2_smallest: float, log2_largest: float, count: int = SCALAR_BUCKETS) -> list[str]:
    """Return `count` lower bounds, 2^((largest - smallest) / count * index), as texts of two decimals.

    They begin at 1 whatever the smallest value is, and two of them may be equal, as mozfun's
    `glam.histogram_generate_scalar_buckets` has them. An empty range has none.
    """
    if log2_smallest >= log2_largest:
        return []
    width = (log2_largest - log2_smallest) / count
    return [f"{2 ** (width * index):.2f}" for index in range(count)]


def _log2_or_zero(value: float) -> float:
    return math.log2(value) if value > 0 else 0.0
