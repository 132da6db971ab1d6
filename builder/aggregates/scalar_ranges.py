"""The range of a scalar's values, of each label its own, and the buckets that GLAM makes of this range."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from builder.aggregates.bucket_list import BucketList
from builder.errors import PermanentBuildError

SCALAR_BUCKETS = 100
MOST_CHARACTERS = 8_000_000  # BigQuery takes a request of 10 MB


class ScalarRanges:
    """The smallest and the largest value of each metric key of each probe, by its number."""

    def __init__(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """`rows` are those of scalar_ranges.sql."""
        self._ranges = {(row["probe"], row["metric_key"]): (row["smallest"], row["largest"]) for row in rows}

    def __bool__(self) -> bool:
        """Return whether there is any metric key."""
        return bool(self._ranges)

    def buckets(self, probe: int, metric_key: str) -> BucketList:
        """Return the buckets of a metric key: each once, and smoothed as if those of equal bounds were apart."""
        bounds = scalar_buckets_between(*self._ranges[probe, metric_key])
        return BucketList(tuple(dict.fromkeys(bounds)), smoothed_over=len(bounds))

    def parameter(self) -> list[str]:
        """Return the parameter of scalar_cells.sql: of each key `probe|bounds|key`, with commas between the bounds.

        Raise PermanentBuildError when it is too long for a request.
        """
        texts, length = [], 0
        for probe, key in self._ranges:
            texts.append(f"{probe}|{','.join(self.buckets(probe, key).keys)}|{key}")
            length += len(texts[-1])
            if length > MOST_CHARACTERS:
                raise PermanentBuildError("tooManyLabels", f"{len(self._ranges):,} labels are too many to build")
        return texts


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
