"""Why a probe has its score: each part in a number and in words."""

from __future__ import annotations

from datetime import date
from functools import cached_property
from typing import Literal

import msgspec
import numpy as np

from usage_service.hotlist_counts import DayCounts
from usage_service.hotlist_scoring import DECIMALS, Parts, history, known_since

SHOWN_DAYS = 28

Name = Literal["recent", "trend", "weekday", "new", "missed", "pinned"]
NAMES: tuple[Name, ...] = ("recent", "trend", "weekday", "new", "missed")  # as in Parts


class Reason(msgspec.Struct, frozen=True):
    """A part of a score: what it adds, in looks a day, and why."""

    name: Name
    value: float
    text: str


class Reasons:
    """Those of the probes of one list."""

    def __init__(self, counts: DayCounts, parts: Parts, target: date) -> None:
        self._counts, self._target = counts, target
        self._parts = [np.round(part, DECIMALS).tolist() for part in parts]

    def of(self, column: int) -> list[Reason]:
        """The parts that are not 0, in the order that they were added in."""
        values = ((name, part[column]) for name, part in zip(NAMES, self._parts, strict=True))
        return [Reason(name, value, self._text(name, value, column)) for name, value in values if value]

    def _text(self, name: Name, value: float, column: int) -> str:
        if name == "recent":
            requests, people = self._requests[column], self._people[column]
            return (
                f"{_of(requests, 'request')} in {self._days} days, by {_of(people, 'person', 'people')} a day added up"
            )
        if name == "trend":
            return f"asked for {'more' if value > 0 else 'less'} lately than in the weeks before"
        if name == "weekday":
            return f"asked for {'more' if value > 0 else 'less'} on {self._target:%A}s than other probes are"
        if name == "new":
            return f"known for {_of(self._age[column], 'day')} only"
        return f"asked for and missing {_of(self._missing[column], 'time')} in {self._days} days"

    @cached_property
    def _recent(self) -> DayCounts:
        return self._counts.between(self._counts.days - SHOWN_DAYS, self._counts.days)

    @cached_property
    def _days(self) -> int:
        return self._recent.days

    @cached_property
    def _requests(self) -> list[int]:
        return list(map(int, self._recent.views.sum(axis=0).tolist()))

    @cached_property
    def _people(self) -> list[int]:
        people = np.maximum(self._recent.people, self._recent.views > 0)
        return list(map(int, people.sum(axis=0).tolist()))

    @cached_property
    def _missing(self) -> list[int]:
        return list(map(int, self._recent.missing.sum(axis=0).tolist()))

    @cached_property
    def _age(self) -> list[int]:
        past = history(self._counts)
        return list(map(int, (past.days - known_since(past)).tolist()))


def _of(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
