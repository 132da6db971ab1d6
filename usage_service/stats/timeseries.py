"""Views and visitors over time, by hour, day or week, without gaps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import msgspec

from usage_service.problems import FieldError, invalid
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.windows import STEPS, Interval, TimeRange, no_days

DEFAULT_BUCKETS: dict[Interval, int] = {"hour": 48, "day": 30, "week": 12}
A_MONDAY = datetime(2001, 1, 1, tzinfo=UTC)
MOST_BUCKETS = 2_400  # 100 days by the hour
VISITORS_SAMPLED = 10_000
ALL_PROBES = ""


class Bucket(msgspec.Struct, frozen=True):
    """Views and visitors from `start` on, for the length of an interval.

    `visitors` are distinct. When there are very many it is an estimate from those of a share of the visitors,
    `share_of_visitors_read`.
    """

    start: datetime
    views: int = 0
    found: int = 0
    missing: int = 0
    visitors: int = 0
    share_of_visitors_read: float = 1.0


class Series(msgspec.Struct, frozen=True):
    """Buckets of one probe, or of all probes of the product together (`probe` is null)."""

    probe: str | None
    buckets: list[Bucket]


class ViewedDays(msgspec.Struct, frozen=True):
    """First and last UTC day with a view."""

    first: date
    last: date


async def viewed_days(connection: Connection, product: str, probe: str, channel: str | None) -> ViewedDays | None:
    """Return the first and the last UTC day on which people viewed a probe ('': any of the product), or None."""
    [row] = await connection.fetch(query("timeseries", "viewed_days"), product, probe, channel)
    return ViewedDays(**row) if row["first"] else None


def bucket_range(interval: Interval, since: datetime | None, until: datetime | None, now: datetime) -> TimeRange:
    """Return the time range from `since` to `until`, extended to whole buckets; weeks begin on Monday, UTC.

    Without `until` the last bucket is that of `now`; without `since` there are DEFAULT_BUCKETS of them. Raise a Problem
    when the range is empty or has more than MOST_BUCKETS.
    """
    step = STEPS[interval]
    end = _start_of(step, until - timedelta(microseconds=1) if until else now) + step
    begin = _start_of(step, since) if since else end - DEFAULT_BUCKETS[interval] * step
    if begin >= end or (since and until and since >= until):
        raise no_days(until)
    if (end - begin) // step > MOST_BUCKETS:
        detail = f"there would be more than {MOST_BUCKETS} of these: take a later since or a longer interval"
        raise invalid([FieldError(parameter="interval", detail=detail)])
    return TimeRange(begin, end)


def _start_of(step: timedelta, moment: datetime) -> datetime:
    return A_MONDAY + (moment.astimezone(UTC) - A_MONDAY) // step * step


async def time_series(
    connection: Connection,
    time_range: TimeRange,
    interval: Interval,
    product: str,
    probes: Sequence[str],
    channel: str | None,
    with_bots: bool,
) -> list[Series]:
    """Return the series of each probe in the order given, or one series of all probes when none is given.

    `time_range` consists of whole buckets.
    """
    step, names = STEPS[interval], list(probes) or [ALL_PROBES]
    rows = await connection.fetch(
        query("timeseries", "counted"), product, names, *time_range, step, channel, with_bots, VISITORS_SAMPLED
    )
    counted = {
        (row["probe"], row["start"]): Bucket(
            row["start"],
            row["found"] + row["missing"],
            row["found"],
            row["missing"],
            row["visitors"],
            row["share_of_visitors_read"],
        )
        for row in rows
    }
    starts = [time_range.since + number * step for number in range((time_range.until - time_range.since) // step)]
    return [Series(name or None, [counted.get((name, start)) or Bucket(start) for start in starts]) for name in names]
