"""Times that people ask about, and time ranges of answers: whole UTC days, or from one instant to another.

A range up to "now" ends with the day or the hour, so that a question asked again soon has the same range.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta

from usage_service.problems import FieldError, Problem, invalid

LONGEST_WINDOW_DAYS = 3_660
DEFAULT_LENGTH = timedelta(days=7)
STEPS = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(weeks=1)}
AHEAD = timedelta(days=1)  # events are accepted up to a day ahead of our clock
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Far enough from the ends of the calendar for any zone, and for any window from there.
FIRST_TIME, LAST_TIME = datetime(1900, 1, 1, tzinfo=UTC), datetime(3000, 1, 1, tzinfo=UTC)
EXAMPLES = "RFC 3339 with a zone, such as 2026-11-23T10:00:00Z, or a day, such as 2026-11-23"

# A time that is asked for, in a query or an option: `time_of` reads it.
Time = Annotated[datetime, Meta(tz=True, description=f"{EXAMPLES}, which is its beginning in UTC")]


Interval = Literal["hour", "day", "week"]


class Days(NamedTuple):
    """Range of UTC days, the first and the last included."""

    first: date
    last: date


class TimeRange(NamedTuple):
    """Range from one instant to another, which is excluded; both in UTC."""

    since: datetime
    until: datetime


def time_of(text: str) -> datetime:
    """Return the time that a text says in RFC 3339 with a zone; a day stands for its first instant in UTC.

    Raise ValueError, with words that follow the name of what was given.
    """
    try:
        return checked_time(msgspec.convert(f"{text}T00:00:00Z" if DAY.fullmatch(text) else text, Time))
    except msgspec.ValidationError:
        raise ValueError(f"must be {EXAMPLES}") from None


def checked_time(instant: datetime) -> datetime:
    """Return an instant that can be asked about; raise ValueError, with words as those of `time_of`."""
    if not FIRST_TIME <= instant <= LAST_TIME:
        raise ValueError(f"must be between {FIRST_TIME:%Y-%m-%d} and {LAST_TIME:%Y-%m-%d}")
    return instant


def window_days(window: str | None, since: datetime | None, until: datetime | None, now: datetime) -> Days:
    """Return the days of `window` (such as 7d) up to `until`, or those from `since` to `until`, which is excluded.

    Raise a Problem when both `window` and `since` are given, or the range is empty or too long.
    """
    if window is not None and since is not None:
        raise invalid([FieldError(parameter="since", detail="give either window or since, not both")])
    end = until or now
    last = (end.astimezone(UTC) - timedelta(microseconds=1)).date() if until else now.astimezone(UTC).date()
    days = int((window or "7d").removesuffix("d"))
    first = since.astimezone(UTC).date() if since else last - timedelta(days=days - 1)
    length = (last - first).days + 1
    if length < 1:
        raise no_days(until)
    if length > LONGEST_WINDOW_DAYS:
        raise invalid([FieldError(parameter="since", detail=f"a window is at most {LONGEST_WINDOW_DAYS} days")])
    return Days(first, last)


def no_days(until: datetime | None) -> Problem:
    """Return the problem of a time range that ends before it begins, at `until` or, without it, now."""
    return invalid([FieldError(parameter="since", detail=f"must be before {'until' if until else 'now'}")])


def time_range_between(since: datetime | None, until: datetime | None, now: datetime) -> TimeRange:
    """Return the range from `since` to `until`; raise a Problem when it is empty.

    By default it ends at the next full hour a day from now, and begins 7 days before its end.
    """
    end = until.astimezone(UTC) if until else _next_hour(now.astimezone(UTC) + AHEAD)
    begin = since.astimezone(UTC) if since else end - DEFAULT_LENGTH
    if begin >= end:
        raise no_days(until)
    return TimeRange(begin, end)


def _next_hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
