"""Releases and their effect: the views in the days after a release, compared with those in the days before."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from typing import Literal

import asyncpg
import msgspec
import numpy as np

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.release_effects import AFTER, BEFORE, HISTORY, Estimate, estimate_ratio
from usage_service.windows import TimeRange

HISTORY_DAYS = 28  # before the days before: tell the weekly rhythm
SIGNIFICANT = 0.05

Effect = Literal["up", "down", "none", "too_little_data"]
Daily = dict[date, float]


class Impact(msgspec.Struct, frozen=True):
    """Views by people of the release's product and channel, in whole UTC days before and after the day of the release.

    `ratio` compares a day after with a day before, adjusted for weekdays; `low` and `high` are its 95 % confidence
    interval. `p_value` is that of no change, each release for itself. They are null when there is too little data.
    `first_day` is the first with a view of the product and channel: days before it are not compared.
    """

    product: str
    channel: str
    version: int
    published_at: datetime
    first_day: date | None
    days_before: int
    days_after: int
    views_before: int
    views_after: int
    ratio: float | None
    low: float | None
    high: float | None
    p_value: float | None
    effect: Effect


async def release_impacts(
    connection: Connection,
    time_range: TimeRange,
    product: str | None,
    channel: str | None,
    days: int,
    today: date,
    limit: int,
) -> list[Impact]:
    """Return the effects of the latest `limit` releases of a time range, latest first.

    Compared are up to `days` days before a release and after it; only days before `today` count.
    """
    releases = await connection.fetch(query("releases", "published"), *time_range, product, channel, limit)
    kinds = {(row["product"], row["channel"]) for row in releases}
    rows = await connection.fetch(query("releases", "daily"), *zip(*kinds, strict=True)) if kinds else []
    daily: dict[tuple[str, str], Daily] = defaultdict(dict)
    for row in rows:
        daily[row["product"], row["channel"]][row["day"]] = row["views"]
    return [_impact(row, daily[row["product"], row["channel"]], days, today) for row in releases]


def _impact(release: asyncpg.Record, daily: Daily, days: int, today: date) -> Impact:
    """Estimate the effect of a release; days before the first view are unknown rather than empty."""
    published = release["published_at"].astimezone(UTC).date()
    known = [(day, period) for day, period in _days_around(published, days) if min(daily, default=today) <= day < today]
    periods = np.array([period for _, period in known], dtype=np.int64)
    counts = np.array([daily.get(day, 0) for day, _ in known], dtype=float)
    estimate = estimate_ratio(counts, np.array([day.weekday() for day, _ in known], dtype=np.int64), periods)
    return Impact(
        **release,
        first_day=min(daily, default=None),
        days_before=int((periods == BEFORE).sum()),
        days_after=int((periods == AFTER).sum()),
        views_before=int(counts[periods == BEFORE].sum()),
        views_after=int(counts[periods == AFTER].sum()),
        ratio=estimate.ratio if estimate else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        p_value=estimate.p_value if estimate else None,
        effect=_effect(estimate),
    )


def _days_around(published: date, days: int) -> list[tuple[date, int]]:
    """Return each day around a release with its period; the day of the release itself is in none."""
    before = [(-back, BEFORE if back <= days else HISTORY) for back in range(days + HISTORY_DAYS, 0, -1)]
    after = [(ahead, AFTER) for ahead in range(1, days + 1)]
    return [(published + timedelta(days=offset), period) for offset, period in before + after]


def _effect(estimate: Estimate | None) -> Effect:
    if estimate is None:
        return "too_little_data"
    if estimate.p_value >= SIGNIFICANT:
        return "none"
    return "up" if estimate.ratio > 1 else "down"
