"""Filters of every page, from its URL: product, channel and days."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, TypeVar
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Channel, Product
from usage_service.shared.patterns import worded
from usage_service.stats.marks import RELEASES, MarkType
from usage_service.web.pages.presentation.comparison import Compared
from usage_service.web.parameters import query_parameters
from usage_service.windows import STEPS, Days, Interval, Time, TimeRange, time_range_between, window_days

Kind = TypeVar("Kind", bound=msgspec.Struct)

WINDOWS = {"1d": "today", "7d": "7 days", "28d": "28 days", "90d": "90 days", "365d": "a year"}
CHANNELS = ("nightly", "beta", "release")
MOST_HOURLY_DAYS, MOST_DAILY_DAYS = 2, 120

PageWindow = Annotated[Literal["1d", "7d", "28d", "90d", "365d"], Meta(description="the days up to today")]
Comparison = Annotated[Literal["before", "year"], Meta(description="the days right before, or 52 weeks before")]
COMPARISONS: dict[Comparison, str] = {"before": "the days before", "year": "52 weeks before"}
A_WEEK, A_YEAR = timedelta(weeks=1), timedelta(weeks=52)


A_TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}Z"
Zoom = Annotated[
    str,
    Meta(
        pattern=worded(rf"^{A_TIME}/{A_TIME}(?!\n)$", "two times, such as 2026-11-01T00:00Z/2026-11-08T00:00Z"),
        description="from and to, as 2026-11-01T00:00Z/2026-11-08T00:00Z",
    ),
]


class ViewParameters(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Product (by default that with the most probes), channel (by default all) and days (by default 28 up to today).

    The days end before `until`. With `since` they begin there, whatever the window. They are compared with those that
    `compare` says, or with as many from `compare_since` on. Charts have a mark at each event of the type `marks`.
    `zoom` is for the page's script: what charts show.
    """

    product: Product | None = None
    channel: Channel | None = None
    window: PageWindow = "28d"
    since: Time | None = None
    until: Time | None = None
    compare: Comparison | None = None
    compare_since: Time | None = None
    marks: MarkType = RELEASES
    zoom: Zoom | None = None


def view_parameters(request: web.Request, kind: type[Kind]) -> Kind:
    """Return the query string as a `kind`, without empty fields of a form; raise a Problem (422) for a wrong one."""
    chosen = [(name, value) for name, value in request.query.items() if value]
    return query_parameters(request.clone(rel_url=request.rel_url.with_query(chosen)), kind)


@dataclass(frozen=True)
class Filters:
    """Filters resolved as of now; `product` is empty when nothing was ever recorded."""

    product: str
    channel: str | None
    window: PageWindow
    now: datetime
    first_day: date | None = None
    last_day: date | None = None
    compare: Comparison | None = None
    compared_since: date | None = None
    marks: str = RELEASES

    @classmethod
    def of(cls, asked: ViewParameters, product: str, now: datetime) -> Filters:
        """Return the filters that are asked for; raise a Problem (422) where there are no days, or too many."""
        first, last = asked.since and _day(asked.since), last_day(asked.until, now)
        if asked.since:
            window_days(None, asked.since, asked.until and min(asked.until, now), now)
        compared_since = asked.compare_since and _day(asked.compare_since)
        return cls(product, asked.channel, asked.window, now, first, last, asked.compare, compared_since, asked.marks)

    @property
    def today(self) -> date:
        """Return the UTC day."""
        return self.now.astimezone(UTC).date()

    @property
    def length(self) -> int:
        """Return the number of days."""
        return (self.days.last - self.days.first).days + 1

    @property
    def days(self) -> Days:
        """Return the UTC days."""
        last = self.last_day or self.today
        return Days(self.first_day or last - timedelta(days=int(self.window[:-1]) - 1), last)

    @property
    def shift(self) -> timedelta | None:
        """Return how long before their time the days begin that these are compared with, None when with none.

        It is in whole weeks where charts are by week.
        """
        if self.compared_since:
            shift = self.days.first - self.compared_since
        elif self.compare:
            shift = A_YEAR if self.compare == "year" else timedelta(days=self.length)
        else:
            return None
        return -(-shift // A_WEEK) * A_WEEK if self.interval == "week" else shift

    @property
    def compared(self) -> Filters | None:
        """Return the same filters for the days that these are compared with, None when with none."""
        if self.shift is None:
            return None
        first, last = (day - self.shift for day in self.days)
        return replace(self, first_day=first, last_day=last, compare=None, compared_since=None)

    @property
    def comparison(self) -> Compared | None:
        """Return how to compare buckets of the days with those of others, None when with none."""
        return None if self.shift is None else Compared(self.shift, self.step, self.now)

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

    @property
    def step(self) -> timedelta:
        """Return the length of the buckets in charts."""
        return STEPS[self.interval]

    def up_to(self, end: date) -> Filters:
        """Return the same filters for as many days, which end before this one."""
        first = end - timedelta(days=self.length) if self.first_day else None
        return replace(self, first_day=first, last_day=end - timedelta(days=1))

    def query(self, **changed: object) -> str:
        """Return a query string with these filters, some of them `changed`, for a link to another page."""
        kept = {"product": self.product, "channel": self.channel} | self.kept_days
        return "?" + urlencode(
            {name: value for name, value in (kept | changed).items() if value not in (None, "")}, doseq=True
        )

    @property
    def kept_days(self) -> dict[str, object]:
        """Return the parameters of the days, of what they are compared with and of marks, for links and forms."""
        days = {"since": self.first_day} if self.first_day else {"window": self.window}
        ends = {"until": self.until and self.until.date()}
        compared = {"compare_since": self.compared_since} if self.compared_since else {"compare": self.compare}
        marks = {"marks": None if self.marks == RELEASES else self.marks}
        return {name: value for name, value in (days | ends | compared | marks).items() if value}


def last_day(until: datetime | None, now: datetime) -> date | None:
    """Return the last UTC day before an instant, or None when it is today or later."""
    last = (until.astimezone(UTC) - timedelta(microseconds=1)).date() if until else None
    return last if last and last < now.astimezone(UTC).date() else None


def _day(instant: datetime) -> date:
    return instant.astimezone(UTC).date()
