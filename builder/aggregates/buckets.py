"""The buckets of scalars, which GLAM makes of the range of their values."""

import math
from collections.abc import Sequence

SCALAR_BUCKETS = 100


def scalar_buckets(log2_smallest: float, log2_largest: float, count: int = SCALAR_BUCKETS) -> list[str]:
    """`count` lower bounds evenly spaced in log2, as texts of two decimals, distinct; none for an empty range."""
    if log2_smallest >= log2_largest:
        return []
    width = (log2_largest - log2_smallest) / count
    return list(dict.fromkeys(f"{2 ** (log2_smallest + width * index):.2f}" for index in range(count)))


def scalar_buckets_between(smallest: float, largest: float) -> list[str]:
    """The buckets of a scalar whose values lie between the two; a bound of 0 or less counts as 1."""
    return scalar_buckets(log2_or_zero(smallest), log2_or_zero(largest))


def log2_or_zero(value: float) -> float:
    """log2, and 0 where it is not defined."""
    return math.log2(value) if value > 0 else 0.0


def bucket_from_value(buckets: Sequence[str], value: float) -> float | None:
    """The largest bucket not above the value; None below all of them."""
    return max((bound for bound in map(float, buckets) if bound <= value), default=None)
