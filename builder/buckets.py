"""The bucket boundaries of histograms: where each kind of metric puts its samples."""

import math
from collections.abc import Sequence

MOST_BUCKETS = 10_000
SCALAR_BUCKETS = 100


def functional_buckets(base: int, per_magnitude: int, largest: int) -> list[int]:
    """Lower bounds that grow by base^(1/per_magnitude), 0 first, none above `largest` (Glean book, timing)."""
    if largest < 0:
        return []
    growth = base ** (1 / per_magnitude)
    steps = math.ceil(math.log(largest + 1, base) * per_magnitude)
    bounds = {0} | {math.floor(growth**step) for step in range(steps + 1)}
    return sorted(bound for bound in bounds if bound <= largest)


def exponential_buckets(smallest: int, largest: int, count: int) -> list[int]:
    """0 and `count` - 1 lower bounds evenly spaced in the logarithm up to `largest` (Glean, custom distribution)."""
    bound = smallest or 1
    bounds = [0, bound]
    for index in range(2, min(count, largest, MOST_BUCKETS)):
        step = (math.log(largest) - math.log(bound)) / (count - index)
        bound = max(round_half_up(math.exp(math.log(bound) + step)), bound + 1)
        bounds.append(bound)
    return bounds


def linear_buckets(smallest: int, largest: int, count: int) -> list[int]:
    """0 and `count` - 1 evenly spaced lower bounds up to `largest` (Glean, custom distribution)."""
    first, last = max(1, smallest), min(count - 1, largest, MOST_BUCKETS)
    return [0] + [
        round_half_up((first * (count - 1 - index) + largest * (index - 1)) / (count - 2))
        for index in range(1, last + 1)
    ]


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


def round_half_up(value: float) -> int:
    """The nearest integer of a value that is not negative, halves upwards as in BigQuery's ROUND."""
    return math.floor(value + 0.5)
