"""Differences between policies, each with an interval that says whether it is more than luck."""

from __future__ import annotations

import msgspec
import numpy as np

from usage_service.probe_keys import Floats

RESAMPLES = 2_000
CONFIDENCE = 0.95
SEED = 20261128


class Difference(msgspec.Struct, frozen=True):
    """Percentage points of the requests that the hot list caught more than another policy, and their interval.

    Where the interval holds 0 there is no difference to speak of.
    """

    points: float
    low: float
    high: float


def differences(ahead: Floats, requests: Floats) -> list[list[Difference]]:
    """Return the differences by policy and budget, from what the list caught more on each night (the last axis).

    Nights are drawn with replacement (paired bootstrap: B. Efron, R. Tibshirani, An Introduction to the Bootstrap,
    1993). The intervals hold all together with CONFIDENCE: their width comes from the largest deviation of all
    comparisons in each draw (P. Westfall, S. Young, Resampling-Based Multiple Testing, 1993).
    """
    policies, budgets, nights = ahead.shape
    dice = np.random.default_rng(SEED)
    draws = dice.multinomial(nights, np.full(nights, 1 / nights), RESAMPLES).astype(np.float64)
    drawn = draws @ ahead.reshape(-1, nights).T / np.maximum(draws @ requests, 1.0)[:, None]
    points = ahead.reshape(-1, nights).sum(axis=1) / requests.sum()
    error = np.maximum(drawn.std(axis=0), 1e-12)
    widest = float(np.quantile((np.abs(drawn - points) / error).max(axis=1, initial=0.0), CONFIDENCE))
    bounds = np.round(100 * np.stack([points, points - widest * error, points + widest * error]), 3)
    found = [Difference(*one) for one in bounds.T.tolist()]
    return [found[row * budgets : (row + 1) * budgets] for row in range(policies)]
