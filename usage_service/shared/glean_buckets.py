"""Bucket boundaries of Glean's histograms, for each kind of distribution."""

import math

MOST_BUCKETS = 10_000


def functional_buckets(base: int, per_magnitude: int, largest: int) -> list[int]:
    """Return lower bounds that grow by base^(1/per_magnitude), 0 first, none above `largest` (Glean book, timing)."""
    if largest < 0:
        return []
    growth = base ** (1 / per_magnitude)
    steps = math.ceil(math.log(largest + 1, base) * per_magnitude)
    bounds = {0} | {math.floor(growth**step) for step in range(steps + 1)}
    return sorted(bound for bound in bounds if bound <= largest)


def exponential_buckets(smallest: int, largest: int, count: int) -> list[int]:
    """Return 0 and `count` - 1 lower bounds, logarithms evenly spaced up to `largest` (Glean, custom distribution)."""
    bound = smallest or 1
    bounds = [0, bound]
    for index in range(2, min(count, largest, MOST_BUCKETS)):
        step = (math.log(largest) - math.log(bound)) / (count - index)
        bound = max(round_half_up(math.exp(math.log(bound) + step)), bound + 1)
        bounds.append(bound)
    return bounds


def linear_buckets(smallest: int, largest: int, count: int) -> list[int]:
    """Return 0 and `count` - 1 evenly spaced lower bounds up to `largest` (Glean, custom distribution)."""
    first, last = max(1, smallest), min(count - 1, largest, MOST_BUCKETS)
    return [0] + [
        round_half_up((first * (count - 1 - index) + largest * (index - 1)) / (count - 2))
        for index in range(1, last + 1)
    ]


def round_half_up(value: float) -> int:
    """Round a value that is not negative to the nearest integer, halves upwards as in BigQuery's ROUND."""
    return math.floor(value + 0.5)
