"""Histograms as pairs of key and value: filling, smoothing, percentiles and the JSON they are stored in."""

import json
import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from itertools import accumulate

Histogram = Sequence[tuple[str, float]]

PERCENTILES = (0.1, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9)
LARGEST_COUNT = 2**40
UNITS = 10_000  # values are stored with 4 decimals
# Sums of shares carry binary noise of about 1e-16 that depends on the order of the summands. Digits beyond the
# twelfth are dropped before a half is rounded, so that the stored value does not depend on that order.
NOISE_DECIMALS = 8


def sum_by_key(histogram: Iterable[tuple[str, float]]) -> dict[str, float]:
    """The sum of the values of each key, keys in order of appearance."""
    sums: dict[str, float] = {}
    for key, value in histogram:
        sums[key] = sums.get(key, 0) + value
    return sums


def filter_high_values(histogram: Histogram) -> list[tuple[str, float]]:
    """Sums by key, after dropping each value outside 0..2^40: a broken clock or a broken client."""
    return list(sum_by_key((key, value) for key, value in histogram if 0 <= value <= LARGEST_COUNT).items())


def normalized_sum(histogram: Histogram, weight: float) -> list[tuple[str, float]]:
    """The share of each key, times the client's weight; all 0 where the sum is 0."""
    return [(key, share) for key, share, _ in normalized_sum_with_original(histogram, weight)]


def normalized_sum_with_original(histogram: Histogram, weight: float) -> list[tuple[str, float, float]]:
    """Key, weighted share and the sum it was made from."""
    sums = sum_by_key(histogram)
    total = sum(sums.values())
    return [(key, weight * value / total if total else 0.0, value) for key, value in sums.items()]


def fill_buckets(values: Mapping[str, float], buckets: Sequence[str]) -> list[tuple[str, float]]:
    """A value for each bucket, 0 where there is none; keys that are no bucket are dropped."""
    return [(bucket, values.get(bucket, 0)) for bucket in buckets]


def fill_buckets_dirichlet(
    values: Mapping[str, float], buckets: Sequence[str], total_users: int
) -> list[tuple[str, float]]:
    """(value + 1/K) / (total_users + 1) for each of the K buckets, numeric order: a Dirichlet prior of weight 1."""
    prior = 1 / len(buckets) if buckets else 0.0
    filled = fill_buckets(values, sorted(buckets, key=numeric_order))
    return [(bucket, (value + prior) / (total_users + 1)) for bucket, value in filled]


def numeric_order(key: str) -> float:
    """Sorting key of a bucket; names, which are no numbers, keep their place behind the numbers."""
    try:
        return float(key)
    except ValueError:
        return math.inf


def ten_thousandths(value: float) -> int:
    """The value rounded to 4 decimals, half away from zero, as a whole number of ten-thousandths."""
    if isinstance(value, int):
        return value * UNITS
    magnitude = math.floor(round(abs(value) * UNITS, NOISE_DECIMALS) + 0.5)
    return -magnitude if value < 0 else magnitude


def rounded(value: float) -> float:
    """The value rounded to 4 decimals, half away from zero; a whole number as an int."""
    units = ten_thousandths(value)
    return units // UNITS if units % UNITS == 0 else units / UNITS


def cast_json(histogram: Histogram) -> str:
    """The histogram as a JSON object: keys in numeric order, values rounded to 4 decimals."""
    ordered = sorted(histogram, key=lambda pair: numeric_order(pair[0]))
    return json.dumps({key: rounded(value) for key, value in ordered}, separators=(",", ":"))


def percentile(percent: float, histogram: Histogram) -> float:
    """The key of the first bucket, in numeric order, whose cumulative share reaches the percent; exact arithmetic.

    A histogram that sums to 0 answers its largest key. Raises ValueError outside 0..100 and without a bucket.
    """
    return percentiles(histogram, (percent,))[0][1]


def percentiles(histogram: Histogram, percents: Sequence[float] = PERCENTILES) -> list[tuple[str, float]]:
    """The percentiles of a histogram as rounded for storage, as pairs of percent and key; none without buckets."""
    if any(not 0 <= percent <= 100 for percent in percents):
        raise ValueError(f"a percentile lies between 0 and 100: {percents}")
    ordered = sorted((float(key), ten_thousandths(value)) for key, value in histogram)
    reached = list(accumulate(units for _, units in ordered))
    return [(f"{percent:g}", ordered[_place(reached, percent)][0]) for percent in percents if ordered]


def _place(reached: Sequence[int], percent: float) -> int:
    """The first place whose cumulative sum is at least the percent of the total; the last of a total of 0."""
    wanted = math.ceil(Fraction(str(percent)) * reached[-1] / 100)
    return bisect_left(reached, wanted) if reached[-1] else len(reached) - 1
