"""Effect of releases and other marks: the views in the days after, compared with those in the days before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from usage_service.probe_keys import Floats, Ints
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.marks import Mark, find_marks
from usage_service.stats.release_effects import AFTER, BEFORE, HISTORY, UNKNOWN, Estimate, fit_ratios
from usage_service.windows import Days, TimeRange

HISTORY_DAYS = 28  # before the days before: tell the weekly rhythm
SIGNIFICANT = 0.05

Effect = Literal["up", "down", "none", "too_little_data"]
Series = tuple[str | None, str | None]  # product and channel, None for any


class Impact(Mark, frozen=True):
    """Views by people of the mark's product and channel, in whole UTC days before and after the day of the mark.

    `ratio` compares a day after with a day before, adjusted for weekdays; `low` and `high` are its 95 % confidence
    interval. `p_value` is that of no change, each mark for itself. They are null when there is too little data.
    `first_day` is the first with a view of the product and channel: days before it are not compared.
    """

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


class Calendar:
    """Days around a mark, each in a period where it is known: whole, before today, and not before the first view."""

    def __init__(self, mark: datetime, days: int, first: date | None, today: date) -> None:
        marked = mark.astimezone(UTC).date()
        self.first_day = first
        self.compared = Days(marked - timedelta(days=days), marked + timedelta(days=days))
        offsets = np.concatenate([np.arange(-days - HISTORY_DAYS, 0), np.arange(1, days + 1)])  # not the mark's own day
        self.ordinals: Ints = marked.toordinal() + offsets
        self.weekdays: Ints = (self.ordinals - 1) % 7
        is_known = (self.ordinals >= (first or today).toordinal()) & (self.ordinals < today.toordinal())
        periods = np.where(offsets > 0, AFTER, np.where(offsets >= -days, BEFORE, HISTORY))
        self.periods: Ints = np.where(is_known, periods, UNKNOWN)

    def number_of(self, period: int) -> int:
        """Return how many days a period has."""
        return int((self.periods == period).sum())


async def release_impacts(
    connection: Connection,
    kind: str,
    time_range: TimeRange,
    product: str | None,
    channel: str | None,
    days: int,
    today: date,
    limit: int,
) -> list[Impact]:
    """Return the effects of the latest `limit` marks of a kind in a time range, latest first.

    Compared are up to `days` days before a mark and after it; only days before `today` count. Days before the first
    view are unknown rather than empty.
    """
    marks = await find_marks(connection, kind, time_range, product, channel, limit)
    if not marks:
        return []
    daily = await _daily_views(connection, marks, days)
    views = [daily.get((mark.product, mark.channel), _Daily(None, {})) for mark in marks]
    calendars = [
        Calendar(mark.published_at, days, own.first_day, today) for mark, own in zip(marks, views, strict=True)
    ]
    counts = np.array([own.on(calendar.ordinals) for own, calendar in zip(views, calendars, strict=True)])
    weekdays, periods = np.array([one.weekdays for one in calendars]), np.array([one.periods for one in calendars])
    fits = fit_ratios(counts, weekdays, periods)
    estimates = dict(zip(fits.places.tolist(), fits.estimates(), strict=True))
    known = enumerate(zip(marks, counts, calendars, strict=True))
    return [_impact(*one, estimates.get(place)) for place, one in known]


class _Daily(NamedTuple):
    """First day with a view of a product and channel, and the views by the ordinal of the UTC day."""

    first_day: date | None
    views: Mapping[int, float]

    def on(self, ordinals: Ints) -> list[float]:
        """Return the views on these days."""
        return [self.views.get(day, 0.0) for day in ordinals.tolist()]


async def _daily_views(connection: Connection, marks: Sequence[Mark], days: int) -> dict[Series, _Daily]:
    """Return the views of the product and channel of each mark, on all days that are compared with another."""
    marked = [mark.published_at.astimezone(UTC).date() for mark in marks]
    since, until = min(marked) - timedelta(days=days + HISTORY_DAYS), max(marked) + timedelta(days=days + 1)
    only = zip(*{(mark.product, mark.channel) for mark in marks}, strict=True)
    rows = await connection.fetch(query("releases", "daily"), *only, since, until)
    return {
        (row["product"], row["channel"]): _Daily(
            row["first_day"], {day.toordinal(): views for day, views in zip(row["days"], row["views"], strict=True)}
        )
        for row in rows
    }


def _impact(mark: Mark, counts: Floats, calendar: Calendar, estimate: Estimate | None) -> Impact:
    return Impact(
        **msgspec.structs.asdict(mark),
        first_day=calendar.first_day,
        days_before=calendar.number_of(BEFORE),
        days_after=calendar.number_of(AFTER),
        views_before=int(counts[calendar.periods == BEFORE].sum()),
        views_after=int(counts[calendar.periods == AFTER].sum()),
        ratio=estimate.ratio if estimate else None,
        low=estimate.low if estimate else None,
        high=estimate.high if estimate else None,
        p_value=estimate.p_value if estimate else None,
        effect=effect_of(estimate),
    )


def effect_of(estimate: Estimate | None) -> Effect:
    """Return the effect in a word."""
    if estimate is None:
        return "too_little_data"
    if estimate.p_value >= SIGNIFICANT:
        return "none"
    return "up" if estimate.ratio > 1 else "down"
