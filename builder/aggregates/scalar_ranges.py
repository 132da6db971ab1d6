"""The buckets that GLAM makes of the range of a scalar's values, of each label its own."""

from __future__ import annotations

import math

from builder.aggregates.bucket_list import BucketList

SCALAR_BUCKETS = 100


def scalar_bucket_list(smallest: float, largest: float) -> BucketList:
    """Return the buckets of values between the two: each once, and smoothed as if those of equal bounds were apart."""
    bounds = scalar_buckets_between(smallest, largest)
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
