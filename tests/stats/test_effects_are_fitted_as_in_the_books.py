"""Effects of many series at once are those of the textbook's fit of each: weighted least squares, again and again."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usage_service.probe_keys import Floats, Ints
from usage_service.stats.release_effects import AFTER, BEFORE, HISTORY, LEAST_COUNT, LEAST_FREEDOM, fit_ratios

SERIES = 4
CONTRAST = np.array([0, -1, 1, *[0] * 7])
MOST = 5.0  # of a logarithm's standard error, and three times that of it: beyond, the likelihood ends nowhere


class Days(NamedTuple):
    """Weekday and period of each day."""

    weekdays: Ints
    periods: Ints

    def design(self) -> Floats:
        """Return a row for each day, a column for each period and weekday."""
        of_periods = [self.periods == period for period in (HISTORY, BEFORE, AFTER)]
        return np.column_stack([*of_periods, *(self.weekdays == day for day in range(7))]).astype(float)


def textbook_fit(counts: Floats, days: Days) -> tuple[float, float] | None:
    """Return the logarithm of the ratio and its standard error; None where the days with views do not tell it.

    There have to be LEAST_FREEDOM degrees of freedom.
    """
    is_told = np.bincount(days.weekdays, counts, 7)[days.weekdays] > 0  # the means of other weekdays are 0 at any level
    freedom = len(counts) - np.linalg.matrix_rank(days.design())
    design, counts = days.design()[is_told], counts[is_told]
    if freedom < LEAST_FREEDOM or not np.allclose(np.linalg.pinv(design) @ design @ CONTRAST, CONTRAST):
        return None
    means = counts + 0.5
    for _ in range(40):
        roots = np.sqrt(means)[:, np.newaxis]
        working = np.log(means) + (counts - means) / means
        coefficients = np.linalg.lstsq(design * roots, working * roots[:, 0], rcond=None)[0]
        means = np.exp(np.clip(design @ coefficients, -30, 30))
    dispersion = max(1.0, ((counts - means) ** 2 / means).sum() / freedom)
    variance = CONTRAST @ np.linalg.pinv(design.T * means @ design) @ CONTRAST
    return float(CONTRAST @ coefficients), math.sqrt(variance * dispersion)


@st.composite
def calendars(draw: st.DrawFn) -> Days:
    """Return any weeks, the day of the release left out."""
    history, before, after = draw(st.tuples(st.sampled_from([0, 5, 9, 28]), st.integers(3, 9), st.integers(3, 9)))
    periods = np.repeat([HISTORY, BEFORE, AFTER], [history, before, after])
    return Days((draw(st.integers(0, 6)) + np.arange(len(periods)) + (periods == AFTER)) % 7, periods)


@settings(max_examples=60)
@given(calendars(), st.integers(0, 2**32), st.sampled_from([0.5, 3, 200]), st.sampled_from([0, 0.3, 0.7]))
def test_each_fit_is_that_of_its_series(days: Days, seed: int, mean: float, empty: float) -> None:
    chance = np.random.default_rng(seed)
    rhythm = chance.gamma(0.5, 2, (SERIES, 7)) * (chance.random((SERIES, 7)) >= empty)
    levels = mean * chance.gamma(1, 1, (SERIES, 3))
    counts = chance.poisson(levels[:, days.periods] * rhythm[:, days.weekdays]).astype(float)
    counts[:, np.unique(days.periods, return_index=True)[1]] += 1  # a period without views has half a view
    fits = fit_ratios(counts, *days)
    found = dict(zip(fits.places.tolist(), zip(fits.effects, fits.errors, strict=True), strict=True))
    for place, series in enumerate(counts):
        expected = textbook_fit(series, days)
        if expected is None or series[days.periods != HISTORY].sum() < LEAST_COUNT:
            assert place not in found
        elif abs(expected[0]) < 3 * MOST and expected[1] < MOST:
            assert found[place] == pytest.approx(expected, rel=1e-3, abs=1e-3 * expected[1])
