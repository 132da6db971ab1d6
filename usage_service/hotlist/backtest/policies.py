"""Ways to choose what to build, each a score a probe from the days before; the hot list's is one of them."""

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
    """The service's own."""
    return score_parts(past, target).score


def most_viewed(days: int) -> Policy:
    """The most requests in the last `days` days."""

    def score(past: DayCounts, _target: date) -> Floats:
        return np.asarray(past.views[-days:].sum(axis=0).astype(np.float64))

    return score


def last_recently_used(past: DayCounts, _target: date) -> Floats:
    """The latest day that it was asked for on, so that the least recently used go first: what a cache of LRU keeps."""
    rows = np.arange(1, past.days + 1)[:, None] * (past.views > 0)
    return np.asarray(rows.max(axis=0, initial=0).astype(np.float64))


def viewed_lately(past: DayCounts, _target: date) -> Floats:
    """GLAM's rule: everything that was viewed in the last 90 days, none before another."""
    return np.asarray(past.views[-GLAM_DAYS:].any(axis=0).astype(np.float64))


POLICIES: dict[str, Policy] = {
    "hot_list": hot_list,
    "most_viewed_7d": most_viewed(7),
    "most_viewed_30d": most_viewed(30),
    "most_viewed_90d": most_viewed(90),
    "last_recently_used": last_recently_used,
    "viewed_in_90d": viewed_lately,
}
CLAIRVOYANT = "clairvoyant"  # knows the day to come: the most that any list of that length can catch
