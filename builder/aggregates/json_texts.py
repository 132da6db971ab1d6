"""JSON objects of histograms and percentiles as they are stored: keys in order, values with at most 4 decimals."""

from __future__ import annotations

import numpy as np

from builder.aggregates.bucket_list import BucketList, json_template
from builder.aggregates.statistics import PERCENTILES, UNITS, Integers, percentile_places

EMPTY = "{}"
SHARES = np.array([f"{units / UNITS:g}" for units in range(UNITS + 1)], dtype=object)
OF_PERCENTILES = json_template(f"{percent:g}" for percent in PERCENTILES)


def share_texts(ten_thousandths: Integers, buckets: BucketList) -> list[str]:
    """Return the JSON text of each row's smoothed histogram, whose values are shares from 0 to 1."""
    return [buckets.template % tuple(row) for row in SHARES[ten_thousandths].tolist()]


def count_texts(counts: Integers, buckets: BucketList) -> list[str]:
    """Return the JSON text of each row's histogram of whole numbers."""
    return [buckets.template % tuple(row) for row in counts.tolist()]


def percentile_texts(counts: Integers, buckets: BucketList) -> list[str]:
    """Return the JSON text of each row's percentiles: `{}` where the buckets are names, or there are none."""
    if not (buckets.numeric and buckets.keys):
        return [EMPTY] * len(counts)
    numbers = np.array(buckets.json_numbers, dtype=object)
    return [OF_PERCENTILES % tuple(row) for row in numbers[percentile_places(counts)].tolist()]
