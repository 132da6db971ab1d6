"""Reasons for the score of a probe: each part as a number and in words."""

from __future__ import annotations

from datetime import date
from typing import Literal

import msgspec
import numpy as np

from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.scoring import DECIMALS, Parts, known_since, recent_days
from usage_service.probe_keys import Ints

SHOWN_DAYS = 28

Name = Literal["recent", "trend", "weekday", "new", "missed", "pinned"]
NAMES: tuple[Name, ...] = ("recent", "trend", "weekday", "new", "missed")  # as in Parts


class Reason(msgspec.Struct, frozen=True):
    """A part of a score: what it adds, in weighted views a day, and why."""

    name: Name
    value: float
    text: str


class Reasons:
    """Reasons of some probes of a list, by their columns."""

    def __init__(self, counts: DayCounts, parts: Parts, target: date, columns: Ints) -> None:
        past = recent_days(counts)
        lately = past.between(past.days - SHOWN_DAYS, past.days)
        views, people = lately.views[:, columns], lately.people[:, columns]
        self._weekday = f"{target:%A}s"
        self._days = min(counts.days, SHOWN_DAYS)
        self._parts = [np.round(part[columns], DECIMALS).tolist() for part in parts]
        self._requests: list[int] = views.sum(axis=0).tolist()
        self._people: list[int] = np.maximum(people, views > 0).sum(axis=0).tolist()
        self._missing: list[int] = lately.missing[:, columns].sum(axis=0).tolist()
        self._age: list[int] = (past.days - known_since(past)[columns]).tolist()

    def of(self, place: int) -> list[Reason]:
        """Return the parts of the score of the column at this place that are not 0, in the order of NAMES."""
        values = ((name, part[place]) for name, part in zip(NAMES, self._parts, strict=True))
        return [Reason(name, value, self._text(name, value, place)) for name, value in values if value]

    def _text(self, name: Name, value: float, place: int) -> str:
        more = "more" if value > 0 else "less"
        if name == "recent":
            people = _of(self._people[place], "person", "people")
            return f"{_of(self._requests[place], 'request')} in {self._days} days, by {people} a day added up"
        if name == "trend":
            return f"asked for {more} lately than in the weeks before"
        if name == "weekday":
            return f"asked for {more} on {self._weekday} than other probes are"
        if name == "new":
            return f"known for {_of(self._age[place], 'day')} only"
        return f"asked for and missing {_of(self._missing[place], 'time')} in {self._days} days"


def _of(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
