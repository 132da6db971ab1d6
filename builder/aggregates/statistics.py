"""Statistics of many histograms at once: a row for each histogram, a column for each bucket, in numeric order."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PERCENTILES = (0.1, 1.0, 5.0, 25.0, 50.0, 75.0, 95.0, 99.0, 99.9)
MOST_PARTS = 10**6  # of a percent
UNITS = 10_000  # values are stored with 4 decimals
# Sums of shares carry binary noise of about 1e-16 that depends on the order of the summands. Digits beyond the
# twelfth are dropped before a half is rounded, so that the stored value does not depend on that order.
FINE = 10**12 // UNITS
LARGEST_FINE = 2.0**62 / 10**12


def smoothed(values: Floats, totals: Floats, prior: float) -> Floats:
    """Smooth each row with a Dirichlet prior: (value + prior) / (total + 1), where the prior is 1/K for K buckets.

    `totals` has the total of each row.
    """
    return np.asarray((values + prior) / (totals[:, np.newaxis] + 1), dtype=np.float64)


def ten_thousandths(values: Floats) -> Integers:
    """Return the values in ten-thousandths, that is rounded to 4 decimals, half away from zero.

    Raise ValueError for a value that is not finite or beyond four million.
    """
    magnitudes = np.abs(values)
    if not np.all(magnitudes < LARGEST_FINE):
        raise ValueError(f"no value to be rounded may reach {LARGEST_FINE:.0f}")
    fine = np.rint(magnitudes * (UNITS * FINE)).astype(np.int64)
    rounded: Integers = (fine + FINE // 2) // FINE
    rounded[values < 0] *= -1
    return rounded


def percentile_places(counts: Integers, percents: Sequence[float] = PERCENTILES) -> Integers:
    """Return, for each histogram and percent, the first bucket whose cumulative share reaches the percent.

    The arithmetic is exact; percents are cut to a millionth. A histogram that sums to 0 has its last bucket as each
    percentile. Raise ValueError for a percent outside 0..100.
    """
    if any(not 0 <= percent <= 100 for percent in percents):
        raise ValueError(f"a percentile lies between 0 and 100: {percents}")
    reached = np.cumsum(counts, axis=1)
    totals = reached[:, -1]
    places = np.empty((len(counts), len(percents)), dtype=np.int64)
    for column, percent in enumerate(percents):
        places[:, column] = np.count_nonzero(reached < _wanted(totals, percent)[:, np.newaxis], axis=1)
    places[totals == 0] = counts.shape[1] - 1
    return places


def _wanted(totals: Integers, percent: float) -> Integers:
    """Return the percent of each total, rounded up, in two steps that do not overflow."""
    share = Fraction(str(percent)).limit_denominator(MOST_PARTS) / 100
    whole, rest = np.divmod(totals, share.denominator)
    wanted: Integers = whole * share.numerator - (-rest * share.numerator) // share.denominator
    return wanted
