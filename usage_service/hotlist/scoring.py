"""Scores of the hot list: the views expected for each probe, as a sum of named parts.

The parts are weighted views (`DayCounts.weighted_views`) expected on the day that the list is for. Counts fade with a
half-life (exponential smoothing: R. G. Brown, Smoothing, Forecasting and Prediction, 1963), which follows a drift that
a window of fixed length either misses or reacts to late; docs/adr/0010-hot-list.md has the measured gain.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import numpy as np

from usage_service.hotlist.counts import LONG_AGO, DayCounts
from usage_service.probe_keys import Floats, Ints

HISTORY_DAYS = 90
HALF_LIFE_DAYS, FAST_HALF_LIFE_DAYS = 28.0, 7.0
LEAST_EXPOSURE_DAYS = 7  # a probe registered yesterday is not judged by one day
TREND_WEIGHT = 0.5
WEEKDAY_CAUTION = 5.0  # weighted views expected on a weekday, of which half the deviation is believed
NEW_DAYS, NEW_HALF_LIFE_DAYS = 90, 10.0
MISSED_WEIGHT = 0.25
DECIMALS = 6  # of a score: smaller differences are ties, which the order of names decides


class Parts(NamedTuple):
    """Parts of the scores, an array each with an entry for each probe; their sum, not below 0, is the score."""

    recent: Floats
    trend: Floats
    weekday: Floats
    new: Floats
    missed: Floats

    @property
    def score(self) -> Floats:
        """Return the sums of the parts, not below 0 and rounded."""
        return np.asarray(np.round(np.maximum(sum(self, np.zeros(1)), 0.0), DECIMALS))


def score_parts(counts: DayCounts, target: date) -> Parts:
    """Return the parts of the scores for the day `target`, from the last HISTORY_DAYS of the counts."""
    past = recent_days(counts)
    views, since = past.weighted_views, known_since(past)
    slow, fast = _fading(past, HALF_LIFE_DAYS), _fading(past, FAST_HALF_LIFE_DAYS)
    recent = slow @ views / _exposure(slow, since)
    recent_exposure = _exposure(fast, since)
    trend = TREND_WEIGHT * (fast @ views / recent_exposure - recent)
    weekday = _weekday_part(past, views, slow, recent + trend, target)
    missed = MISSED_WEIGHT * (fast @ past.missing) / recent_exposure
    return Parts(recent, trend, weekday, _new_part(past.days - since, recent), missed)


def recent_days(counts: DayCounts) -> DayCounts:
    """Return the last HISTORY_DAYS of the counts, without the days before the first request."""
    begin = max(0, counts.days - HISTORY_DAYS)
    asked = counts.views[begin:].any(axis=1)
    return counts.between(begin + int(asked.argmax()) if asked.any() else begin, counts.days)


def known_since(counts: DayCounts) -> Ints:
    """Return the row of each probe's registration or first request, the earlier of the two.

    So a catalogue that is imported late makes no probe new.
    """
    asked = counts.views > 0
    first_asked = np.where(asked.any(axis=0), asked.argmax(axis=0), counts.days) if counts.days else counts.registered
    so_far = np.where(
        counts.registered < counts.days, counts.registered, LONG_AGO
    )  # a registration in the future is unknown
    return np.minimum(so_far, first_asked)


def ranking(score: Floats, ranks: Ints) -> Ints:
    """Return the columns, highest score first, equals in the order of names."""
    return np.lexsort((ranks, -score))


def expected_coverage(counts: DayCounts, score: Floats, order: Ints) -> Floats:
    """Return the expected share of the next requests for the first 1, 2, 3... of the columns in `order`.

    A probe's score is in weighted views. It is converted to requests by the probe's own ratio of requests to weighted
    views (with fading weights; one is added to both, so that few views say little). The shares are of the requests for
    all probes, also for those that nobody has requested yet.
    """
    past = recent_days(counts)
    weights = _fading(past, HALF_LIFE_DAYS)
    requests = score * (1 + weights @ past.views) / (1 + weights @ past.weighted_views)
    total = float(requests.sum())
    shares: Floats = (1 - _unseen_probability(past)) * np.cumsum(requests[order]) / (total or 1.0)
    return shares


def _unseen_probability(counts: DayCounts) -> float:
    """Return the probability that the next request is for a probe without a request in the last HISTORY_DAYS.

    It is the number of probes requested once divided by that of all requests: I. J. Good, Biometrika 40 (1953), after
    A. Turing.
    """
    views = recent_days(counts).views.sum(axis=0)
    total = int(views.sum())
    return float((views == 1).sum() / total) if total else 1.0


def _fading(past: DayCounts, half_life: float) -> Floats:
    """Return the weight of each day; that of the last one is 1."""
    weights: Floats = 0.5 ** (np.arange(past.days - 1, -1, -1) / half_life)
    return weights


def _exposure(weights: Floats, registered: Ints) -> Floats:
    """Return the sum of the weights of the days on which each probe could be requested.

    They are the days from its registration on, at least the last LEAST_EXPOSURE_DAYS.
    """
    since_row = np.append(np.cumsum(weights[::-1])[::-1], 0.0)
    latest = max(0, len(weights) - LEAST_EXPOSURE_DAYS)
    exposure: Floats = np.maximum(since_row[np.clip(registered, 0, latest)], np.finfo(float).tiny)
    return exposure


def _weekday_part(past: DayCounts, views: Floats, weights: Floats, expected: Floats, target: date) -> Floats:
    """Return the effect of the target's weekday on each probe, beyond its effect on all; few views say little."""
    same = (past.first.weekday() + np.arange(past.days)) % 7 == target.weekday()
    of_all = float((weights @ views).sum())
    if not same.any() or of_all == 0:
        return np.zeros(len(expected))
    on_day, all_days = (weights * same) @ views, weights @ views
    by_chance = all_days * (float(on_day.sum()) / of_all)  # if its weekdays were those of all probes
    believed = by_chance / (by_chance + WEEKDAY_CAUTION)
    ratio = np.divide(on_day, by_chance, out=np.ones(len(expected)), where=by_chance > 0)
    return np.asarray(expected * believed * (ratio - 1))


def _new_part(age: Ints, recent: Floats) -> Floats:
    """Return a bonus for new probes: the average of all new ones, fading with a probe's age.

    Nobody could request them before, so their own counts are too low.
    """
    new = (age >= 1) & (age <= NEW_DAYS)
    if not new.any():
        return np.zeros(len(recent))
    return np.asarray(np.where(new, recent[new].mean() * 0.5 ** (np.clip(age, 0, NEW_DAYS) / NEW_HALF_LIFE_DAYS), 0.0))
