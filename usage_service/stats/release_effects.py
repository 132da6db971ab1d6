"""Estimate of a change in daily counts before and after a day, adjusted for weekly rhythm and over-dispersion.

Counts are modelled as quasi-Poisson: the logarithm of a day's mean is an effect of the weekday plus a level of its
period, and the variance is a multiple of the mean, estimated from Pearson's residuals (McCullagh & Nelder, Generalized
Linear Models, 2nd ed. 1989, sections 4.5, 6.2 and 9.2). The ratio is that of two levels; its interval and test take
Student's t distribution with the residual degrees of freedom, as the dispersion is an estimate.

Whatever the levels are, the likeliest effect of a weekday is the one that makes its mean sum what was counted. So only
the levels are sought, by Newton's method. The information about them is the Laplacian matrix of a network: two periods
are linked by the means of the weekdays that they share. The variance of the difference of two levels is the resistance
between them (Klein & Randic, Journal of Mathematical Chemistry 12, 1993).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from usage_service.probe_keys import Floats, Ints
from usage_service.stats.students_t import student_quantile, student_within

HISTORY, BEFORE, AFTER, UNKNOWN = range(4)
WEEKDAYS, PERIODS = 7, 3
CELLS = WEEKDAYS * PERIODS  # and one of unknown days
LEAST_DAYS, LEAST_COUNT, LEAST_FREEDOM = 3, 20, 3
CONFIDENCE = 0.95
ROUNDS, CLOSE_ENOUGH, LONGEST_STEP = 50, 1e-9, 2.0
FARTHEST = 30  # of a logarithm
NEARLY_NONE = 1e-100  # in the place of 0 as a divisor


class Estimate(NamedTuple):
    """Ratio of the level after to the level before, its confidence interval, and the p-value of no change."""

    ratio: float
    low: float
    high: float
    p_value: float


class Fits(NamedTuple):
    """Fits of the series with enough data: place, logarithm of the ratio, its standard error and degrees of freedom."""

    places: Ints
    effects: Floats
    errors: Floats
    freedom: Ints

    def p_values(self) -> Floats:
        """Return the chance of an effect as large as each when there is none."""
        chances = np.empty(len(self.places))
        for freedom in np.unique(self.freedom).tolist():
            own = self.freedom == freedom
            chances[own] = 1 - student_within(np.abs(self.effects[own]) / self.errors[own], freedom)
        return np.maximum(chances, 0)

    def estimates(self, confidence: float = CONFIDENCE) -> list[Estimate]:
        """Return the ratio of each, with an interval of this confidence."""
        margins = self.errors * [student_quantile(confidence, freedom) for freedom in self.freedom.tolist()]
        ends = np.stack([self.effects, self.effects - margins, self.effects + margins])
        columns = [*np.exp(np.clip(ends, -FARTHEST, FARTHEST)), self.p_values()]
        return [Estimate(*one) for one in zip(*(column.tolist() for column in columns), strict=True)]

    def some(self, numbers: Ints) -> Fits:
        """Return some of the fits."""
        return Fits(self.places[numbers], self.effects[numbers], self.errors[numbers], self.freedom[numbers])


def fit_ratios(counts: Floats, weekdays: Ints, periods: Ints) -> Fits:
    """Fit the ratio of the level of AFTER to that of BEFORE in each series that has enough data.

    `counts` has a row for each series and a column for each day. The others have the weekday (0 to 6) and the period of
    each day, for all series or a row for each. HISTORY tells about weekdays and dispersion alone, UNKNOWN nothing.
    There is too little data with fewer than LEAST_DAYS days in a period, counts that sum to less than LEAST_COUNT in
    the two, or when the weekdays that have any are confounded with the change.
    """
    cells = np.atleast_2d(np.where(periods == UNKNOWN, CELLS, weekdays * PERIODS + periods))
    days = _by_cell(np.ones(cells.shape), cells)
    freedom = np.broadcast_to(_freedom(days), len(counts))
    days = np.broadcast_to(days, (len(counts), *days.shape[1:]))
    cells = np.broadcast_to(cells, counts.shape)
    compared = _by_cell(counts, cells)[:, :, (BEFORE, AFTER)].sum(axis=(1, 2))
    enough = np.flatnonzero((compared >= LEAST_COUNT) & (freedom >= LEAST_FREEDOM))
    effects, errors = _fit(counts[enough], cells[enough], days[enough], freedom[enough])
    told = np.flatnonzero(errors < FARTHEST)  # beyond, the interval ends nowhere
    return Fits(enough, effects, errors, freedom[enough]).some(told)


def _by_cell(of_days: Floats, cells: Ints) -> Floats:
    """Return the sums over the days of each weekday and period, for each series."""
    series = np.arange(len(cells))[:, np.newaxis] * (CELLS + 1)
    sums = np.bincount((series + cells).ravel(), of_days.ravel(), len(cells) * (CELLS + 1)).astype(np.float64)
    return sums.reshape(len(cells), CELLS + 1)[:, :CELLS].reshape(len(cells), WEEKDAYS, PERIODS)


def _freedom(days: Floats) -> Ints:
    """Return the residual degrees of freedom; 0 with too few days, or weekdays that are confounded with the change."""
    links = _links(days)
    is_apart = days[:, :, HISTORY].any(axis=1) & ~links[:, HISTORY, (BEFORE, AFTER)].any(axis=1)
    parameters = days.any(axis=2).sum(axis=1) + days.any(axis=1).sum(axis=1) - 1 - is_apart
    is_told = (days[:, :, (BEFORE, AFTER)].sum(axis=1).min(axis=1) >= LEAST_DAYS) & np.isfinite(_resistances(links))
    return np.where(is_told, days.sum(axis=(1, 2)) - parameters, 0).astype(np.int64)


def _fit(counts: Floats, cells: Ints, days: Floats, freedom: Ints) -> tuple[Floats, Floats]:
    """Return the likeliest logarithm of the ratio in each series, and its standard error."""
    counts = _without_empty_periods(counts, cells, days)
    sums = _by_cell(counts, cells)
    by_weekday, by_period = sums.sum(axis=2), sums.sum(axis=1)
    levels = np.log(np.maximum(by_period, NEARLY_NONE) / np.maximum(days.sum(axis=1), 1))
    going = np.arange(len(counts))
    for _ in range(ROUNDS):
        means = _means(by_weekday[going], levels[going], days[going]) * days[going]
        steps = _steps(_links(means), by_period[going] - means.sum(axis=1))
        levels[going] += np.clip(steps, -LONGEST_STEP, LONGEST_STEP)
        going = going[(np.abs(steps) >= CLOSE_ENOUGH).any(axis=1)]
        if not len(going):
            break
    means = _means(by_weekday, levels, days)
    of_days = np.take_along_axis(np.pad(means.reshape(len(means), CELLS), ((0, 0), (0, 1))), cells, axis=1)
    residuals = np.where(cells < CELLS, (counts - of_days) ** 2 / np.maximum(of_days, NEARLY_NONE), 0).sum(axis=1)
    variances = _resistances(_links(means * days)) * np.maximum(1.0, residuals / freedom)
    return levels[:, AFTER] - levels[:, BEFORE], np.sqrt(variances)


def _without_empty_periods(counts: Floats, cells: Ints, days: Floats) -> Floats:
    """Return the counts with half a count in a period that has none, because its level would have no logarithm."""
    halves = np.where(_by_cell(counts, cells).sum(axis=1) == 0, 0.5 / np.maximum(days.sum(axis=1), 1), 0)
    return np.asarray(counts + np.take_along_axis(halves, cells % PERIODS, axis=1))


def _means(by_weekday: Floats, levels: Floats, days: Floats) -> Floats:
    """Return the mean of a day of each weekday in each period, so that those of a weekday sum to what was counted."""
    rates = np.exp(levels)[:, np.newaxis, :]
    whole = np.maximum((days * rates).sum(axis=2), NEARLY_NONE)
    return np.asarray((by_weekday / whole)[:, :, np.newaxis] * rates)


def _links(sums: Floats) -> Floats:
    """Return how much is known of the difference between the levels of any two periods, from what both have in common.

    `sums` has the sum of the means of each weekday (a row) in each period (a column), for each series.
    """
    of_weekdays = np.maximum(sums.sum(axis=2, keepdims=True), NEARLY_NONE)
    return np.asarray(np.swapaxes(sums / of_weekdays, 1, 2) @ sums)


def _steps(links: Floats, missing: Floats) -> Floats:
    """Return Newton's step of each level, for what the means are `missing` of each period's count; BEFORE stays."""
    past, across, ahead = (
        links[:, one, other] for one, other in ((HISTORY, BEFORE), (BEFORE, AFTER), (HISTORY, AFTER))
    )
    past = np.maximum(past, NEARLY_NONE)  # a history that has nothing in common with the others moves none of them
    determinant = np.maximum(past * across + past * ahead + across * ahead, NEARLY_NONE**2)
    steps = np.zeros_like(missing)
    steps[:, HISTORY] = (across + ahead) * missing[:, HISTORY] + ahead * missing[:, AFTER]
    steps[:, AFTER] = ahead * missing[:, HISTORY] + (past + ahead) * missing[:, AFTER]
    return steps / determinant[:, np.newaxis]


def _resistances(links: Floats) -> Floats:
    """Return the variance of the difference between AFTER and BEFORE, which are linked directly and through HISTORY."""
    past, ahead = links[:, HISTORY, BEFORE], links[:, HISTORY, AFTER]
    known = links[:, BEFORE, AFTER] + past * ahead / np.maximum(past + ahead, NEARLY_NONE)
    return np.where(known > NEARLY_NONE, 1 / np.maximum(known, NEARLY_NONE), np.inf)
