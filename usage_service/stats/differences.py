"""Difference between two distributions, with intervals that need nothing but the stored shares and numbers of clients.

A share of clients is a mean of numbers from 0 to 1, whose variance is at most p (1 - p) / n, as if each client had one
value (Bhatia & Davis, The American Mathematical Monthly 107, 2000). So what is known of n single values bounds it:

- the interval of a share is Wilson's (Journal of the American Statistical Association 22, 1927),
- that of a percentile comes from the distribution by inversion (Woodruff, ibid. 47, 1952),
- that of a difference of shares combines the two (Newcombe, Statistics in Medicine 17, 1998); percentiles are starts of
  buckets, and two may err by whole buckets at once: so their margins are added,
- the largest difference of two cumulative distributions is compared with Kolmogorov's law, which a mean of smoother
  distributions exceeds less often (Anderson, Proceedings of the American Mathematical Society 6, 1955); that of
  categories with the normal law and Bonferroni's correction.

All err on the wide side: values that are spread within each client vary less. Two sides that the same clients may have
sent, in an unknown relation, are taken for as badly correlated as can be.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import msgspec
import numpy as np

from usage_service.probe_keys import Floats
from usage_service.stats.distributions import ROUNDED_TO, Distribution

PERCENTS = (5.0, 25.0, 50.0, 75.0, 95.0)
CONFIDENCE = 0.95
LEAST_EXPECTED = 5  # clients of a category, for the normal law
Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


class Estimate(msgspec.Struct, frozen=True):
    """Value and the ends of its confidence interval."""

    value: float
    low: float
    high: float


class Difference(msgspec.Struct, frozen=True):
    """What was compared (a percent or a category), its value on each side, and the second minus the first."""

    of: float | str
    first: Estimate
    second: Estimate
    difference: Estimate


class LargestDifference(msgspec.Struct, frozen=True):
    """Largest difference of a share: of the clients with a value of at least `at`, or of the category `at`.

    The interval of the difference holds wherever the largest one is. `p_value` is that of no difference anywhere.
    """

    at: float | str
    first: float
    second: float
    difference: Estimate
    p_value: float


class Gap(NamedTuple):
    """Largest difference of a share: at or above a value (`at`), or of a category.

    `first` and `second` are the shares. `statistic` is the difference in units in which its law is known; `tests` is 0
    for Kolmogorov's, else the number of categories that were looked at. `rounding` of it may be the stored digits'.
    """

    at: float | str
    first: float
    second: float
    statistic: float
    unit: float
    tests: int
    rounding: float

    @property
    def p_value(self) -> float:
        """Return the chance of a difference as large when there is none."""
        return exceeds(self.statistic, self.tests)

    def interval(self, confidence: float = CONFIDENCE) -> Estimate:
        """Return the difference and its interval, which holds wherever the largest one is."""
        margin = critical(1 - confidence, self.tests) * self.unit + self.rounding
        value = self.second - self.first
        return Estimate(value, max(value - margin, -1.0), min(value + margin, 1.0))

    def largest(self, difference: Estimate, p_value: float) -> LargestDifference:
        """Return the gap as it is answered, with an interval and a p-value that are corrected as they have to be."""
        return LargestDifference(self.at, self.first, self.second, difference, p_value)


def share_of(distribution: Distribution, name: str) -> Estimate:
    """Return the share of a category."""
    place = distribution.names.index(name) if name in distribution.names else None
    share = 0.0 if place is None else min(float(distribution.shares[place]), 1.0)
    n, square = distribution.clients, Z * Z
    middle = (share + square / (2 * n)) / (1 + square / n)
    margin = Z / (1 + square / n) * math.sqrt(share * (1 - share) / n + square / (4 * n * n))
    return Estimate(share, max(0.0, min(share, middle - margin)), min(1.0, max(share, middle + margin)))


def percentile_of(distribution: Distribution, percent: float) -> Estimate:
    """Return a percentile: the starts of buckets, as percentiles are stored."""
    margin = 100 * Z * math.sqrt(percent / 100 * (1 - percent / 100) / distribution.clients)
    ends = distribution.percentile(percent - margin), distribution.percentile(percent + margin)
    return Estimate(distribution.percentile(percent), *ends)


def difference_of(of: float | str, first: Estimate, second: Estimate, together: bool) -> Difference:
    """Return the difference of two estimates, which may err `together` or independently of each other."""
    join: Callable[[float, float], float] = operator.add if together else math.hypot
    value = second.value - first.value
    low = value - join(second.value - second.low, first.high - first.value)
    high = value + join(second.high - second.value, first.value - first.low)
    return Difference(of, first, second, Estimate(value, low, high))


def percentile_differences(first: Distribution, second: Distribution) -> list[Difference]:
    """Return the differences of percentiles; none where the buckets are categories."""
    if first.starts is None or second.starts is None:
        return []
    return [
        difference_of(percent, percentile_of(first, percent), percentile_of(second, percent), together=True)
        for percent in PERCENTS
    ]


def median_difference(first: Distribution, second: Distribution) -> Difference | None:
    """Return the difference of the medians; None where the buckets are categories."""
    return next((one for one in percentile_differences(first, second) if one.of == 50), None)


def category_differences(first: Distribution, second: Distribution, same_clients: bool = False) -> list[Difference]:
    """Return the differences of the shares of categories, the largest first; none where the buckets are numbers."""
    if first.starts is not None or second.starts is not None:
        return []
    names = dict.fromkeys((*first.names, *second.names))
    found = [difference_of(name, share_of(first, name), share_of(second, name), same_clients) for name in names]
    return sorted(found, key=lambda one: -abs(one.difference.value))


def gap_between(first: Distribution, second: Distribution, same_clients: bool = False) -> Gap | None:
    """Return the largest difference; None where the two share no bucket whose clients could be told apart."""
    roots = 1 / math.sqrt(first.clients), 1 / math.sqrt(second.clients)
    unit = sum(roots) if same_clients else math.hypot(*roots)
    if first.starts is None and second.starts is None:
        return _category_gap(first, second, unit)
    return _numeric_gap(first, second, unit)


def _numeric_gap(first: Distribution, second: Distribution, unit: float) -> Gap | None:
    """Compare what lies below each start that both have: there both are known exactly."""
    if first.starts is None or second.starts is None:  # one is of categories
        return None
    starts, ours, theirs = np.intersect1d(first.starts, second.starts, return_indices=True)
    if not len(starts):
        return None
    one, other = 1 - first.below_starts()[ours], 1 - second.below_starts()[theirs]
    place = int(np.argmax(np.abs(other - one)))
    rounding = ROUNDED_TO * math.sqrt(max(len(first.names), len(second.names)))
    statistic = max(0.0, abs(float(other[place] - one[place])) - rounding) / unit
    return Gap(float(starts[place]), float(one[place]), float(other[place]), statistic, unit, 0, rounding)


def _category_gap(first: Distribution, second: Distribution, unit: float) -> Gap | None:
    names = tuple(dict.fromkeys((*first.names, *second.names)))
    one, other = _aligned(first, names), _aligned(second, names)
    pooled = (one * first.clients + other * second.clients) / (first.clients + second.clients)
    usual = pooled * min(first.clients, second.clients) >= LEAST_EXPECTED
    if not usual.any():
        return None
    deviations = np.sqrt(np.maximum(pooled * (1 - pooled), 1e-12))
    sizes = np.where(usual, np.maximum(np.abs(other - one) - ROUNDED_TO, 0) / deviations / unit, -1.0)
    place, tests = int(np.argmax(sizes)), int(usual.sum())
    tests = tests if tests > 2 else 1  # of two categories one is what the other is not
    shares = float(one[place]), float(other[place])
    return Gap(names[place], *shares, float(sizes[place]), unit * float(deviations[place]), tests, ROUNDED_TO)


def _aligned(distribution: Distribution, names: tuple[str, ...]) -> Floats:
    shares = dict(zip(distribution.names, distribution.shares, strict=True))
    return np.array([shares.get(name, 0.0) for name in names])


def exceeds(statistic: float, tests: int) -> float:
    """Return how likely a statistic as large is by chance: Kolmogorov's law, or that of so many normal ones."""
    if tests:
        return min(1.0, tests * math.erfc(statistic / math.sqrt(2)))
    if statistic < 0.2:  # the chance is 1 to ten digits, and the series is slow
        return 1.0
    terms = ((2 if k % 2 else -2) * math.exp(-2 * (k * statistic) ** 2) for k in range(1, 31))
    return min(1.0, max(0.0, sum(terms)))


def critical(chance: float, tests: int) -> float:
    """Return the statistic that is exceeded with this chance, by bisection."""
    low, high = 0.0, 40.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if exceeds(middle, tests) > chance else (low, middle)
    return (low + high) / 2
