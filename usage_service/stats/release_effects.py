"""Estimate of a change in daily counts before and after a day, adjusted for weekly rhythm and over-dispersion.

Counts are modelled as quasi-Poisson: the logarithm of a day's mean is an effect of the weekday plus a level of its
period, and the variance is a multiple of the mean, estimated from Pearson's residuals (McCullagh & Nelder, Generalized
Linear Models, 2nd ed. 1989, sections 4.5, 6.2 and 9.2). The ratio is that of two levels; its interval and test take
Student's t distribution with the residual degrees of freedom, as the dispersion is an estimate.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

HISTORY, BEFORE, AFTER = 0, 1, 2
LEAST_DAYS, LEAST_COUNT, LEAST_FREEDOM = 3, 20, 3
CONFIDENCE = 0.95
ROUNDS, CLOSE_ENOUGH = 50, 1e-9
FARTHEST = 30  # of a logarithm

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Estimate(NamedTuple):
    """Ratio of the level after to the level before, its 95 % confidence interval, and the p-value of no change."""

    ratio: float
    low: float
    high: float
    p_value: float


def estimate_ratio(counts: Floats, weekdays: Integers, periods: Integers) -> Estimate | None:
    """Return the ratio of the level of AFTER to that of BEFORE; HISTORY tells about weekdays and dispersion alone.

    The arrays have one entry a day: its count, its weekday (0 to 6) and its period. Return None when there is too
    little data: fewer than LEAST_DAYS days in a period, counts that sum to less than LEAST_COUNT in the two, or days
    whose weekdays are confounded with the change.
    """
    sizes = [int((periods == period).sum()) for period in (BEFORE, AFTER)]
    if min(sizes) < LEAST_DAYS or counts[periods != HISTORY].sum() < LEAST_COUNT:
        return None
    design, contrast = _design(weekdays, periods)
    freedom = len(counts) - int(np.linalg.matrix_rank(design))
    estimable = np.allclose(np.linalg.pinv(design) @ design @ contrast, contrast, atol=1e-8)
    if freedom < LEAST_FREEDOM or not estimable:
        return None
    effect, error = _fit(_without_empty_periods(counts, periods), design, contrast, freedom)
    margin = student_quantile(CONFIDENCE, freedom) * error
    ratio, low, high = np.exp(np.clip([effect, effect - margin, effect + margin], -FARTHEST, FARTHEST)).tolist()
    return Estimate(ratio, low, high, 1 - student_within(abs(effect) / error, freedom))


def _design(weekdays: Integers, periods: Integers) -> tuple[Floats, Floats]:
    """Return the design matrix and the contrast of AFTER with BEFORE.

    The matrix has a column for each period and for each weekday that occurs, but for the first, which is the base.
    """
    levels, days = np.unique(periods), np.unique(weekdays)[1:]
    columns = [periods == level for level in levels] + [weekdays == day for day in days]
    contrast = np.array([*((levels == AFTER) * 1.0 - (levels == BEFORE)), *np.zeros(len(days))])
    return np.column_stack(columns).astype(float), contrast


def _without_empty_periods(counts: Floats, periods: Integers) -> Floats:
    """Return the counts with half a count in a period that has none, because its level would have no logarithm."""
    filled = counts.astype(float)
    for period in np.unique(periods):
        if counts[periods == period].sum() == 0:
            filled[periods == period] = 0.5 / (periods == period).sum()
    return filled


def _fit(counts: Floats, design: Floats, contrast: Floats, freedom: int) -> tuple[float, float]:
    """Return the estimated contrast and its standard error, by iteratively reweighted least squares."""
    means = counts + 0.5
    deviance = math.inf
    for _ in range(ROUNDS):
        roots = np.sqrt(means)
        working = np.log(means) + (counts - means) / means
        coefficients = np.linalg.lstsq(design * roots[:, None], working * roots, rcond=None)[0]
        means = np.exp(np.clip(design @ coefficients, -FARTHEST, FARTHEST))
        last, deviance = deviance, _deviance(counts, means)
        if abs(last - deviance) < CLOSE_ENOUGH * (abs(deviance) + 0.1):
            break
    dispersion = max(1.0, float(((counts - means) ** 2 / means).sum()) / freedom)
    variances = np.linalg.pinv(design.T @ (design * means[:, None])) * dispersion
    return float(contrast @ coefficients), math.sqrt(float(contrast @ variances @ contrast))


def _deviance(counts: Floats, means: Floats) -> float:
    logs = np.where(counts > 0, counts * np.log(np.maximum(counts, 1e-300) / means), 0)
    return float(2 * (logs - (counts - means)).sum())


def student_within(t: float, freedom: int) -> float:
    """Return P(|T| <= t) of Student's t with whole degrees of freedom (Abramowitz & Stegun, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine, cosine if freedom > 1 else 0.0) if odd else (1.0, 1.0)
    for k in range(2 + odd, freedom - 1, 2):
        term *= (k - 1) / k * cosine**2
        total += term
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def student_quantile(within: float, freedom: int) -> float:
    """Return the t for which P(|T| <= t) is `within`, by bisection."""
    low, high = 0.0, 1e6
    while high - low > 1e-12 * (1 + high):
        middle = (low + high) / 2
        low, high = (middle, high) if student_within(middle, freedom) < within else (low, middle)
    return (low + high) / 2
