"""The hot list and what it catches, in plain Python over requests one by one; shares no code with the service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from math import sqrt
from typing import NamedTuple

Name = tuple[str, str]


class Request(NamedTuple):
    """Somebody asked for a probe."""

    day: date
    name: Name
    visitor: str | None
    found: bool


Looks = dict[Name, dict[date, float]]


def looks_of(requests: Iterable[Request]) -> Looks:
    """By probe and day: the geometric mean of requests and people."""
    by_cell: dict[tuple[Name, date], list[Request]] = defaultdict(list)
    for request in requests:
        by_cell[request.name, request.day].append(request)
    looks: Looks = defaultdict(dict)
    for (name, day), own in by_cell.items():
        people = max(1, len({request.visitor for request in own if request.visitor is not None}))
        looks[name][day] = sqrt(len(own) * people)
    return looks


def scores(requests: Sequence[Request], registered: dict[Name, date], last: date, target: date) -> dict[Name, float]:
    """The score of every probe that was asked for in the 90 days up to `last`, or registered in them."""
    inside = [request for request in requests if last - timedelta(days=90) < request.day <= last]
    begin = min((request.day for request in inside), default=last - timedelta(days=89))
    span = [last - timedelta(days=age) for age in range((last - begin).days + 1)]
    registered = {name: day for name, day in registered.items() if day <= last}
    looks = looks_of(inside)
    names = set(looks) | set(registered)
    known = {name: since(name, looks, registered, span) for name in names}
    slow = {name: rate(looks.get(name, {}), known[name], span, 28) for name in names}
    fast = {name: rate(looks.get(name, {}), known[name], span, 7) for name in names}
    missing: dict[Name, dict[date, float]] = defaultdict(lambda: defaultdict(float))
    for request in inside:
        missing[request.name][request.day] += not request.found
    weekday = weekday_ratios(looks, span, target)
    age = {name: (last - known[name]).days + 1 for name in names}
    new = [name for name in names if 1 <= age[name] <= 90]
    usual = sum(slow[name] for name in new) / len(new) if new else 0.0
    found = {}
    for name in names:
        expected = slow[name] + 0.5 * (fast[name] - slow[name])
        score = expected * (1 + weekday.get(name, 0.0)) + 0.25 * rate(missing[name], known[name], span, 7)
        score += usual * 0.5 ** (age[name] / 10) if name in new else 0.0
        found[name] = round(max(0.0, score), 6)
    return found


def since(name: Name, looks: Looks, registered: dict[Name, date], span: Sequence[date]) -> date:
    """The day that it was registered or first asked for; before everything where neither is known to be later."""
    return min(registered.get(name, date(1900, 1, 1)), min(looks.get(name, {}), default=span[0] + timedelta(days=1)))


def rate(by_day: dict[date, float], known: date, span: Sequence[date], half_life: float) -> float:
    """The mean of the days that it could be asked for on, at least the last seven, later ones counting more."""
    weights = {day: 0.5 ** (age / half_life) for age, day in enumerate(span)}
    exposed = sum(weight for age, (day, weight) in enumerate(weights.items()) if day >= known or age < 7)
    return float(sum(weights[day] * number for day, number in by_day.items()) / exposed)


def weekday_ratios(looks: Looks, span: Sequence[date], target: date) -> dict[Name, float]:
    """How much more, as a share, is asked for on the target's weekday than of all probes together."""
    weights = {day: 0.5 ** (age / 28) for age, day in enumerate(span)}
    total = {name: sum(weights[day] * number for day, number in days.items()) for name, days in looks.items()}
    on_day = {
        name: sum(weights[day] * number for day, number in days.items() if day.weekday() == target.weekday())
        for name, days in looks.items()
    }
    everything = sum(total.values())
    ratios = {}
    for name in looks:
        chance = total[name] * sum(on_day.values()) / everything
        if chance > 0:
            ratios[name] = chance / (chance + 5) * (on_day[name] / chance - 1)
    return ratios


def ranked(found: dict[Name, float]) -> list[Name]:
    """Those above 0, best first, equals by name."""
    return sorted((name for name, score in found.items() if score > 0), key=lambda name: (-found[name], name))


def caught(requests: Sequence[Request], day: date, chosen: Iterable[Name]) -> int:
    """How many requests of a day are for the chosen."""
    names = set(chosen)
    return sum(request.day == day and request.name in names for request in requests)
