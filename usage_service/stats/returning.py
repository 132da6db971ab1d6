"""Visitors who come back: of those of each week, how many came again so many weeks later."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.sessions import Bots
from usage_service.stats.timeseries import bucket_range
from usage_service.windows import STEPS, TimeRange

SESSIONS_SAMPLED = 5_000
WEEK = STEPS["week"]


class Again(msgspec.Struct, frozen=True):
    """Number and share of a week's visitors who came again in the week that began so many weeks later."""

    weeks_later: int
    visitors: int
    share: float


class Week(msgspec.Struct, frozen=True):
    """Visitors of the week that begins at `start`, and how many came again in each later week that is over."""

    start: datetime
    visitors: int
    came_again: list[Again]


class Returning(msgspec.Struct, frozen=True):
    """Weeks that are over, and the share of all their visitors who came again in the week after (null: not known yet).

    All sessions are read, or those of a share of the visitors (`share_of_visitors_read`) when there are very many.
    """

    since: datetime
    until: datetime
    share_of_visitors_read: float
    after_a_week: float | None
    weeks: list[Week]


def whole_weeks(since: datetime | None, until: datetime | None, now: datetime) -> TimeRange:
    """Return the weeks that overlap the time range (by default the last 12) and are over; maybe none are."""
    begin, end = bucket_range("week", since, until, now)
    running = bucket_range("week", None, None, now).until - WEEK
    return TimeRange(min(begin, running), min(end, running))


async def returning(connection: Connection, weeks: TimeRange, product: str | None, bots: Bots) -> Returning:
    """Count the visitors of each week, and how many of them came again in each later week."""
    filters = (*weeks, product, bots)
    [sample] = await connection.fetch(query("sessions", "sample"), *filters, SESSIONS_SAMPLED)
    rows = await connection.fetch(query("returning", "weeks"), *filters, sample["sample_key"])
    counts = {(row["start"], row["weeks_later"]): row["visitors"] for row in rows}
    starts = [weeks.since + number * WEEK for number in range((weeks.until - weeks.since) // WEEK)]
    found = [_week(start, len(starts) - place - 1, counts) for place, start in enumerate(starts)]
    known = [week for week in found if week.came_again]
    came, again = sum(week.visitors for week in known), sum(week.came_again[0].visitors for week in known)
    return Returning(*weeks, sample["share_of_visitors_read"], round(again / came, 6) if came else None, found)


def _week(start: datetime, later: int, counts: Mapping[tuple[datetime, int], int]) -> Week:
    visitors = counts.get((start, 0), 0)
    again = [counts.get((start, weeks), 0) for weeks in range(1, later + 1)]
    shares = [round(number / max(visitors, 1), 6) for number in again]
    return Week(start, visitors, [Again(place, *one) for place, one in enumerate(zip(again, shares, strict=True), 1)])
