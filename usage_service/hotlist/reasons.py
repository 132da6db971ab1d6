"""Reasons for the score of a probe: each part as a number and in words."""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.evidence import Rule
from usage_service.hotlist.experts import EXPERTS
from usage_service.hotlist.learning import Night
from usage_service.hotlist.unviewed import TRAIT_WORDS
from usage_service.probe_keys import Floats, Ints

SHOWN_DAYS = 28
SHOWN_DECIMALS = 6
WEEKDAYS = ("Mondays", "Tuesdays", "Wednesdays", "Thursdays", "Fridays", "Saturdays", "Sundays")

Name = Literal["recent", "weekday", "new", "missed", "unviewed", "pinned"]
NAMES: tuple[Name, ...] = ("recent", "weekday", "new", "missed", "unviewed")


class Reason(msgspec.Struct, frozen=True):
    """A part of a score: what it adds, in views a day, and why."""

    name: Name
    value: float
    text: str


class Reasons:
    """Reasons of some probes of a list, by their columns; `lately` has the last SHOWN_DAYS."""

    def __init__(self, night: Night, lately: DayCounts, columns: Ints) -> None:
        views, people = lately.views[:, columns], lately.people[:, columns]
        self._night, self._days = night, lately.days
        self._columns: list[int] = columns.tolist()
        self._requests: list[int] = views.sum(axis=0).tolist()
        self._people: list[int] = np.maximum(people, views > 0).sum(axis=0).tolist()
        self._missing: list[int] = lately.missing[:, columns].sum(axis=0).tolist()
        self._age: list[int] = night.age[columns].tolist()
        self._words = {rule: EXPERTS[rule.expert].words for rule in night.rules}
        self._values = {rule: self._of_rule(rule, columns) for rule in {*night.rules, None}}

    def _of_rule(self, rule: Rule | None, columns: Ints) -> dict[Name, list[float]]:
        """Return the parts of the scores by a rule; without one, of what is expected of unviewed probes alone."""
        if rule is None:
            return {"unviewed": self._rounded(self._night.reached[columns])}
        base = self._night.scores_of(rule.expert)
        found: dict[Name, list[float]] = {"recent": self._rounded(base[columns])}
        for name in rule.additions:
            found[name] = self._rounded(self._night.addition(name, base)[columns])
        return found

    def _rounded(self, values: Floats) -> list[float]:
        found: list[float] = np.round(values, SHOWN_DECIMALS).tolist()
        return found

    def of(self, place: int, rule: Rule | None) -> list[Reason]:
        """Return the parts of the score by a rule of the column at this place that are not 0, in the order of NAMES."""
        values = self._values[rule]
        own = ((name, values[name][place]) for name in NAMES if name in values)
        return [Reason(name, value, self._text(name, value, place, rule)) for name, value in own if value]

    def _text(self, name: Name, value: float, place: int, rule: Rule | None) -> str:
        if name == "recent" and rule:
            people = _of(self._people[place], "person", "people")
            requests = _of(self._requests[place], "request")
            return f"{requests} in {self._days} days, by {people} a day added up; {self._words[rule]}"
        if name == "weekday":
            more = "more" if value > 0 else "less"
            return f"asked for {more} on {WEEKDAYS[(self._night.day + 6) % 7]} than other probes are"
        if name == "new":
            return f"known for {_of(self._age[place], 'day')} only"
        if name == "missed":
            return f"asked for and missing {_of(self._missing[place], 'time')} in {self._days} days"
        times, trait = self._night.guess.why(self._columns[place])
        return f"never viewed; {times:.1f} times as likely as others, mostly for its {TRAIT_WORDS[trait]}"


def _of(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
