"""Policies that choose probes to build: each scores probes by the days before; the hot list is one of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import TypeAlias

import numpy as np

from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.scoring import score_parts
from usage_service.probe_keys import Floats

Policy: TypeAlias = Callable[[DayCounts, date], Floats]
GLAM_DAYS = 90


def hot_list(past: DayCounts, target: date) -> Floats:
    """Score as the service's hot list does."""
    return score_parts(past, target).score


def most_viewed(days: int) -> Policy:
    """Return the policy that scores by the requests in the last `days` days."""

    def score(past: DayCounts, _target: date) -> Floats:
        return np.asarray(past.views[-days:].sum(axis=0).astype(np.float64))

    return score


def last_recently_used(past: DayCounts, _target: date) -> Floats:
    """Score by the day of the last request, as an LRU cache does, which drops the least recently used first."""
    rows = np.arange(1, past.days + 1)[:, None] * (past.views > 0)
    return np.asarray(rows.max(axis=0, initial=0).astype(np.float64))


def viewed_lately(past: DayCounts, _target: date) -> Floats:
    """Score alike all probes that were viewed in the last 90 days, which is GLAM's rule."""
    return np.asarray(past.views[-GLAM_DAYS:].any(axis=0).astype(np.float64))


POLICIES: dict[str, Policy] = {
    "hot_list": hot_list,
    "most_viewed_7d": most_viewed(7),
    "most_viewed_30d": most_viewed(30),
    "most_viewed_90d": most_viewed(90),
    "last_recently_used": last_recently_used,
    "viewed_in_90d": viewed_lately,
}
CLAIRVOYANT = "clairvoyant"  # knows the next day: an upper bound for any list of that length
