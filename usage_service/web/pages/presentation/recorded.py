"""Days on which anything was recorded, beside the days that a page shows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple

from usage_service.windows import Days


class Recorded(NamedTuple):
    """First and last day with a view, and the days shown."""

    days: Days
    shown: Days

    @classmethod
    def of(cls, viewed: Mapping[str, str] | None, shown: Days) -> Recorded | None:
        """Return what was recorded, None when nothing ever was."""
        if not viewed:
            return None
        return cls(Days(date.fromisoformat(viewed["first"]), date.fromisoformat(viewed["last"])), shown)

    @property
    def elsewhere(self) -> date | None:
        """Return the day after the last view when all views are outside of the days shown: their window ends there."""
        is_outside = self.days.last < self.shown.first or self.days.first > self.shown.last
        return self.days.last + timedelta(days=1) if is_outside else None

    @property
    def has_period_before(self) -> bool:
        """Return whether the log reaches back beyond the first day shown."""
        return self.days.first < self.shown.first

    @property
    def has_whole_period_before(self) -> bool:
        """Return whether the log has all of the period before, which is as long as what is shown."""
        length = self.shown.last - self.shown.first + timedelta(days=1)
        return self.days.first <= self.shown.first - length
