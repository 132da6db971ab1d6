"""Comparison of days with others: how much a number changed, and what a chart draws of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from usage_service.web.pages.presentation.words import moment

Buckets = Sequence[Mapping[str, Any]]
Row = dict[str, object]
MINUS = "\N{MINUS SIGN}"


class Change(NamedTuple):
    """A number, and that which it is compared with."""

    now: float
    before: float

    @property
    def words(self) -> str:
        """Return how much more or less it is, in words."""
        if not self.before:
            return "none before" if self.now else "none before either"
        share = self.now / self.before - 1
        sign = "+" if share >= 0 else MINUS
        return f"{sign}{abs(share):.0%} on {self.before:,.0f}"


class Compared(NamedTuple):
    """How to compare buckets of the days shown with those of days that begin `shift` earlier.

    A bucket that is not over at `now` is left out of both.
    """

    shift: timedelta
    step: timedelta
    now: datetime

    def change(self, buckets: Buckets, others: Buckets, value: Callable[[Mapping[str, Any]], float]) -> Change:
        """Return the sum of the values of both; a bucket that is not listed is 0."""
        over = [bucket for bucket in buckets if self._is_over(_start(bucket))]
        before = [other for other in others if self._is_over(_start(other) + self.shift)]
        return Change(sum(map(value, over)), sum(map(value, before)))

    def _is_over(self, start: datetime) -> bool:
        """Return whether both the bucket that begins at `start` and that which it is compared with are over."""
        return max(start, start - self.shift) + self.step <= self.now

    def rows(self, others: Buckets, value: Callable[[Mapping[str, Any]], float]) -> list[Row]:
        """Return a row for each bucket of the other days, at the present one's place; its series says when it was."""
        return [
            {
                "start": (_start(other) + self.shift).isoformat(),
                "series": f"compared: {moment(other['start'])}",
                "value": value(other),
            }
            for other in others
        ]


def _start(bucket: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(bucket["start"])
