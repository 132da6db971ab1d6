"""Filters of every page, from its URL: product, channel and days."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Channel, Instant, Product
from usage_service.web.parameters import query_parameters
from usage_service.windows import Days, Interval, TimeRange, time_range_between

Kind = TypeVar("Kind", bound=msgspec.Struct)

WINDOWS = {"1d": "today", "7d": "7 days", "28d": "28 days", "90d": "90 days", "365d": "a year"}
CHANNELS = ("nightly", "beta", "release")
MOST_HOURLY_DAYS, MOST_DAILY_DAYS = 2, 120

PageWindow = Annotated[Literal["1d", "7d", "28d", "90d", "365d"], Meta(description="the days up to today")]


class ViewParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Product (by default that with the most probes), channel (by default all) and days (by default 28 up to today).

    The days end before `until`.
    """

    product: Product | None = None
    channel: Channel | None = None
    window: PageWindow = "28d"
    until: Instant | None = None


def view_parameters(request: web.Request, kind: type[Kind]) -> Kind:
    """Return the query string as a `kind`, without empty fields of a form; raise a Problem (422) for a wrong one."""
    chosen = [(name, value) for name, value in request.query.items() if value]
    return query_parameters(request.clone(rel_url=request.rel_url.with_query(chosen)), kind)


def last_day(until: datetime | None, now: datetime) -> date | None:
    """Return the last UTC day before an instant, or None when it is today or later."""
    last = (until.astimezone(UTC) - timedelta(microseconds=1)).date() if until else None
    return last if last and last < now.astimezone(UTC).date() else None


@dataclass(frozen=True)
class Filters:
    """Filters resolved as of now; `product` is empty when nothing was ever recorded."""

    product: str
    channel: str | None
    window: PageWindow
    now: datetime
    last_day: date | None = None

    @property
    def today(self) -> date:
        """Return the UTC day."""
        return self.now.astimezone(UTC).date()

    @property
    def length(self) -> int:
        """Return the number of days of the window."""
        return int(self.window[:-1])

    @property
    def days(self) -> Days:
        """Return the UTC days of the window."""
        last = self.last_day or self.today
        return Days(last - timedelta(days=self.length - 1), last)

    @property
    def since(self) -> datetime:
        """Return the beginning of the first day."""
        return datetime.combine(self.days.first, datetime.min.time(), UTC)

    @property
    def time_range(self) -> TimeRange:
        """Return the time range of the window, for questions about sessions."""
        return time_range_between(self.since, self.until, self.now)

    @property
    def until(self) -> datetime | None:
        """Return the end of the last day, None when that is today."""
        end = self.last_day + timedelta(days=1) if self.last_day else None
        return datetime.combine(end, datetime.min.time(), UTC) if end else None

    @property
    def interval(self) -> Interval:
        """Return the interval of the buckets in charts of the window."""
        return "hour" if self.length <= MOST_HOURLY_DAYS else "day" if self.length <= MOST_DAILY_DAYS else "week"

    def query(self, **changed: object) -> str:
        """Return a query string with these filters, some of them `changed`, for a link to another page."""
        kept: dict[str, object] = {"product": self.product, "channel": self.channel, "window": self.window}
        kept["until"] = self.until and self.until.date()
        return "?" + urlencode({name: value for name, value in (kept | changed).items() if value not in (None, "")})
