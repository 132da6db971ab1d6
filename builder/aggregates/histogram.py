"""One histogram as pairs of key and value: filling, smoothing, percentiles and JSON, as the functions of mozfun."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from builder.aggregates.statistics import PERCENTILES, UNITS, percentile_places, smoothed, ten_thousandths

Histogram = Sequence[tuple[str, float]]

LARGEST_COUNT = 2**40


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
    filled = fill_buckets(values, sorted(buckets, key=numeric_order))
    row = np.array([[value for _, value in filled]], dtype=np.float64)
    even = smoothed(row, np.array([total_users], dtype=np.float64))
    return [(bucket, value) for (bucket, _), value in zip(filled, even[0].tolist(), strict=True)]


def numeric_order(key: str) -> float:
    """Sorting key of a bucket; names, which are no numbers, keep their place behind the numbers."""
    try:
        return float(key)
    except ValueError:
        return math.inf


def rounded(value: float) -> float:
    """The value rounded to 4 decimals, half away from zero; a whole number as an int."""
    if isinstance(value, int) or value.is_integer():
        return int(value)
    units = int(ten_thousandths(np.array([value]))[0])
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
    ordered = sorted((float(key), value) for key, value in histogram)
    keys, values = [key for key, _ in ordered], [value for _, value in ordered]
    whole = all(isinstance(value, int) for value in values)
    counts = np.array([values], dtype=np.int64) if whole else ten_thousandths(np.array([values], dtype=np.float64))
    places = percentile_places(counts, percents)[0].tolist() if keys else []
    return [(f"{percent:g}", keys[place]) for percent, place in zip(percents, places, strict=False)]
