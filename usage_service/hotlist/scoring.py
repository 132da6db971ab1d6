"""How likely each probe is to be looked at next: the score of the hot list, as a sum of named parts.

The parts are in looks (`DayCounts.looks`) that are expected on the day that the list is for. Counts fade with a
half-life (exponential smoothing: R. G. Brown, Smoothing, Forecasting and Prediction, 1963), which follows a drift that
a window of fixed length either misses or reacts to late; docs/adr/0010-hot-list.md has what it gains.
"""

from __future__ import annotations

from datetime import date
from typing import NamedTuple

import numpy as np

from usage_service.hotlist.counts import LONG_AGO, DayCounts
from usage_service.probe_keys import Floats, Ints

HISTORY_DAYS = 90
HALF_LIFE_DAYS, FAST_HALF_LIFE_DAYS = 28.0, 7.0
LEAST_EXPOSURE_DAYS = 7  # a probe of yesterday is not judged by one day
TREND_WEIGHT = 0.5
WEEKDAY_CAUTION = 5.0  # so many looks on that weekday before half of what it says is believed
NEW_DAYS, NEW_HALF_LIFE_DAYS = 90, 10.0
MISSED_WEIGHT = 0.25
DECIMALS = 6  # of a score: what differs less is equal, and the order of names decides


class Parts(NamedTuple):
    """What each score is made of, an array a part; their sum, not below 0, is the score."""

    recent: Floats
    trend: Floats
    weekday: Floats
    new: Floats
    missed: Floats

    @property
    def score(self) -> Floats:
        """The sums, rounded."""
        return np.asarray(np.round(np.maximum(sum(self, np.zeros(1)), 0.0), DECIMALS))


def score_parts(counts: DayCounts, target: date) -> Parts:
    """The parts for the day `target`, judged by the last HISTORY_DAYS of the counts."""
    past = history(counts)
    looks, since = past.looks, known_since(past)
    slow, fast = _fading(past, HALF_LIFE_DAYS), _fading(past, FAST_HALF_LIFE_DAYS)
    recent = slow @ looks / _exposure(slow, since)
    lately = _exposure(fast, since)
    trend = TREND_WEIGHT * (fast @ looks / lately - recent)
    weekday = _weekday_part(past, looks, slow, recent + trend, target)
    missed = MISSED_WEIGHT * (fast @ past.missing) / lately
    return Parts(recent, trend, weekday, _new_part(past.days - since, recent), missed)


def history(counts: DayCounts) -> DayCounts:
    """The last HISTORY_DAYS, from the first day that anything was asked for on: before it nobody could."""
    begin = max(0, counts.days - HISTORY_DAYS)
    asked = counts.views[begin:].any(axis=1)
    return counts.between(begin + int(asked.argmax()) if asked.any() else begin, counts.days)


def known_since(counts: DayCounts) -> Ints:
    """The row that a probe was registered on, or asked for first: a catalogue that comes late makes nothing new."""
    asked = counts.views > 0
    first_asked = np.where(asked.any(axis=0), asked.argmax(axis=0), counts.days) if counts.days else counts.registered
    so_far = np.where(counts.registered < counts.days, counts.registered, LONG_AGO)  # who is to come is not known of
    return np.minimum(so_far, first_asked)


def ranking(score: Floats, ranks: Ints) -> Ints:
    """The columns, highest score first, equals in the order of names."""
    return np.lexsort((ranks, -score))


def expected_coverage(counts: DayCounts, score: Floats, order: Ints) -> Floats:
    """The share of the next requests that the first 1, 2, 3... of the columns in `order` should catch.

    Each probe's looks, as the score expects them, times the requests that a look was (faded, one of each added, so that
    few say little), against all probes and those that nobody has asked for.
    """
    past = history(counts)
    weights = _fading(past, HALF_LIFE_DAYS)
    requests = score * (1 + weights @ past.views) / (1 + weights @ past.looks)
    total = float(requests.sum())
    shares: Floats = (1 - unseen_chance(past)) * np.cumsum(requests[order]) / (total or 1.0)
    return shares


def unseen_chance(counts: DayCounts) -> float:
    """How likely the next request is for a probe that nobody asked for in the last HISTORY_DAYS.

    The share of probes asked for once among all requests: I. J. Good, Biometrika 40 (1953), after A. Turing.
    """
    views = history(counts).views.sum(axis=0)
    total = int(views.sum())
    return float((views == 1).sum() / total) if total else 1.0


def _fading(past: DayCounts, half_life: float) -> Floats:
    """The weight of each day; that of the last one is 1."""
    weights: Floats = 0.5 ** (np.arange(past.days - 1, -1, -1) / half_life)
    return weights


def _exposure(weights: Floats, registered: Ints) -> Floats:
    """The weights of the days that a probe could be asked for on: from its registration, at least the last few."""
    since_row = np.append(np.cumsum(weights[::-1])[::-1], 0.0)
    latest = max(0, len(weights) - LEAST_EXPOSURE_DAYS)
    exposure: Floats = np.maximum(since_row[np.clip(registered, 0, latest)], np.finfo(float).tiny)
    return exposure


def _weekday_part(past: DayCounts, looks: Floats, weights: Floats, expected: Floats, target: date) -> Floats:
    """What the target's weekday adds to or takes from a probe, beyond what it does to all; few looks say little."""
    same = (past.first.weekday() + np.arange(past.days)) % 7 == target.weekday()
    of_all = float((weights @ looks).sum())
    if not same.any() or of_all == 0:
        return np.zeros(len(expected))
    on_day, all_days = (weights * same) @ looks, weights @ looks
    by_chance = all_days * (float(on_day.sum()) / of_all)  # were its weekdays those of all probes
    believed = by_chance / (by_chance + WEEKDAY_CAUTION)
    ratio = np.divide(on_day, by_chance, out=np.ones(len(expected)), where=by_chance > 0)
    return np.asarray(expected * believed * (ratio - 1))


def _new_part(age: Ints, recent: Floats) -> Floats:
    """What probes known for few days get on average, less the longer they are: nobody could ask for them before."""
    new = (age >= 1) & (age <= NEW_DAYS)
    if not new.any():
        return np.zeros(len(recent))
    return np.asarray(np.where(new, recent[new].mean() * 0.5 ** (np.clip(age, 0, NEW_DAYS) / NEW_HALF_LIFE_DAYS), 0.0))
