"""Spans of time that answers are about: whole UTC days, or instants."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from usage_service.problems import FieldError, invalid

LONGEST_WINDOW_DAYS = 3_660


class Days(NamedTuple):
    """From the first to the last UTC day, both included."""

    first: date
    last: date


def window_days(window: str | None, since: datetime | None, until: datetime | None, now: datetime) -> Days:
    """The days of `window` (such as 7d) up to `until`, or of `since` to `until`; `until` itself is excluded."""
    if window is not None and since is not None:
        raise invalid([FieldError(parameter="since", detail="give either window or since, not both")])
    end = until or now
    last = (end.astimezone(UTC) - timedelta(microseconds=1)).date() if until else now.astimezone(UTC).date()
    days = int((window or "7d").removesuffix("d"))
    first = since.astimezone(UTC).date() if since else last - timedelta(days=days - 1)
    return _checked(Days(first, last))


def _checked(days: Days) -> Days:
    length = (days.last - days.first).days + 1
    if length < 1:
        raise invalid([FieldError(parameter="since", detail="must be before until")])
    if length > LONGEST_WINDOW_DAYS:
        raise invalid([FieldError(parameter="since", detail=f"a window is at most {LONGEST_WINDOW_DAYS} days")])
    return days
