"""Histograms and percentiles as the JSON objects that are stored: keys in order, values with at most 4 decimals."""

from __future__ import annotations

from operator import add

from builder.aggregates.bucket_list import BucketList
from builder.aggregates.histogram import rounded
from builder.aggregates.statistics import PERCENTILES, UNITS, Integers, percentile_places

EMPTY = "{}"
SHARES = [str(rounded(units / UNITS)) for units in range(UNITS + 1)]
PERCENT_KEYS = [f'"{percent:g}":' for percent in PERCENTILES]


def share_texts(ten_thousandths: Integers, buckets: BucketList) -> list[str]:
    """Smoothed histograms, a row each, of values from 0 to 1."""
    return [_object(buckets.json_keys, [SHARES[units] for units in row]) for row in ten_thousandths.tolist()]


def count_texts(counts: Integers, buckets: BucketList) -> list[str]:
    """Histograms of whole numbers, a row each."""
    return [_object(buckets.json_keys, [str(count) for count in row]) for row in counts.tolist()]


def percentile_texts(counts: Integers, buckets: BucketList) -> list[str]:
    """The percentiles of histograms, a row each; none where the buckets are no numbers, or there are none."""
    if not (buckets.numeric and buckets.keys):
        return [EMPTY] * len(counts)
    numbers = buckets.json_numbers
    return [_object(PERCENT_KEYS, [numbers[place] for place in row]) for row in percentile_places(counts).tolist()]


def _object(keys: list[str], values: list[str]) -> str:
    return f"{{{','.join(map(add, keys, values))}}}"
