"""JSON objects of histograms and percentiles as they are stored: keys in order, values with at most 4 decimals."""

from __future__ import annotations

from operator import add

from builder.aggregates.bucket_list import BucketList
from builder.aggregates.statistics import PERCENTILES, UNITS, Integers, percentile_places

EMPTY = "{}"
SHARES = [f"{units / UNITS:g}" for units in range(UNITS + 1)]
PERCENT_KEYS = [f'"{percent:g}":' for percent in PERCENTILES]


def share_texts(ten_thousandths: Integers, buckets: BucketList) -> list[str]:
    """Return the JSON text of each row's smoothed histogram, whose values are shares from 0 to 1."""
    return [_object(buckets.json_keys, [SHARES[units] for units in row]) for row in ten_thousandths.tolist()]


def count_texts(counts: Integers, buckets: BucketList) -> list[str]:
    """Return the JSON text of each row's histogram of whole numbers."""
    return [_object(buckets.json_keys, [str(count) for count in row]) for row in counts.tolist()]


def percentile_texts(counts: Integers, buckets: BucketList) -> list[str]:
    """Return the JSON text of each row's percentiles: `{}` where the buckets are names, or there are none."""
    if not (buckets.numeric and buckets.keys):
        return [EMPTY] * len(counts)
    numbers = buckets.json_numbers
    return [_object(PERCENT_KEYS, [numbers[place] for place in row]) for row in percentile_places(counts).tolist()]


def _object(keys: list[str], values: list[str]) -> str:
    return f"{{{','.join(map(add, keys, values))}}}"
