"""Hot list and the requests it catches, in plain Python, one request at a time; shares no code with the service."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from math import sqrt
from typing import NamedTuple

Name = tuple[str, str]


class Request(NamedTuple):
    """A request for a probe."""

    day: date
    name: Name
    visitor: str | None
    found: bool


WeightedViews = dict[Name, dict[date, float]]


def weighted_views_of(requests: Iterable[Request]) -> WeightedViews:
    """Return the geometric mean of requests and people, by probe and day."""
    by_cell: dict[tuple[Name, date], list[Request]] = defaultdict(list)
    for request in requests:
        by_cell[request.name, request.day].append(request)
    views: WeightedViews = defaultdict(dict)
    for (name, day), own in by_cell.items():
        people = max(1, len({request.visitor for request in own if request.visitor is not None}))
        views[name][day] = sqrt(len(own) * people)
    return views


def scores(requests: Sequence[Request], registered: dict[Name, date], last: date, target: date) -> dict[Name, float]:
    """Score every probe that was requested in the 90 days up to `last`, or registered in them."""
    inside = [request for request in requests if last - timedelta(days=90) < request.day <= last]
    begin = min((request.day for request in inside), default=last - timedelta(days=89))
    days = [last - timedelta(days=age) for age in range((last - begin).days + 1)]
    registered = {name: day for name, day in registered.items() if day <= last}
    views = weighted_views_of(inside)
    names = set(views) | set(registered)
    known = {name: since(name, views, registered, days) for name in names}
    slow = {name: rate(views.get(name, {}), known[name], days, 28) for name in names}
    fast = {name: rate(views.get(name, {}), known[name], days, 7) for name in names}
    missing: dict[Name, dict[date, float]] = defaultdict(lambda: defaultdict(float))
    for request in inside:
        missing[request.name][request.day] += not request.found
    weekday = weekday_ratios(views, days, target)
    age = {name: (last - known[name]).days + 1 for name in names}
    new = [name for name in names if 1 <= age[name] <= 90]
    usual = sum(slow[name] for name in new) / len(new) if new else 0.0
    found = {}
    for name in names:
        expected = slow[name] + 0.5 * (fast[name] - slow[name])
        score = expected * (1 + weekday.get(name, 0.0)) + 0.25 * rate(missing[name], known[name], days, 7)
        score += usual * 0.5 ** (age[name] / 10) if name in new else 0.0
        found[name] = round(max(0.0, score), 6)
    return found


def since(name: Name, views: WeightedViews, registered: dict[Name, date], days: Sequence[date]) -> date:
    """Return the day of registration or of the first request, the earlier; before all when not registered."""
    return min(registered.get(name, date(1900, 1, 1)), min(views.get(name, {}), default=days[0] + timedelta(days=1)))


def rate(by_day: dict[date, float], known: date, days: Sequence[date], half_life: float) -> float:
    """Return the mean of the days on which it could be requested, at least the last seven, later ones weighing more."""
    weights = {day: 0.5 ** (age / half_life) for age, day in enumerate(days)}
    exposed = sum(weight for age, (day, weight) in enumerate(weights.items()) if day >= known or age < 7)
    return float(sum(weights[day] * number for day, number in by_day.items()) / exposed)


def weekday_ratios(views: WeightedViews, days: Sequence[date], target: date) -> dict[Name, float]:
    """Return each probe's excess on the target's weekday over that of all probes together, as a share."""
    weights = {day: 0.5 ** (age / 28) for age, day in enumerate(days)}
    total = {name: sum(weights[day] * number for day, number in own.items()) for name, own in views.items()}
    on_day = {
        name: sum(weights[day] * number for day, number in own.items() if day.weekday() == target.weekday())
        for name, own in views.items()
    }
    everything = sum(total.values())
    ratios = {}
    for name in views:
        chance = total[name] * sum(on_day.values()) / everything
        if chance > 0:
            ratios[name] = chance / (chance + 5) * (on_day[name] / chance - 1)
    return ratios


def ranked(found: dict[Name, float]) -> list[Name]:
    """Rank the probes with a score above 0, best first, equals by name."""
    return sorted((name for name, score in found.items() if score > 0), key=lambda name: (-found[name], name))


def caught(requests: Sequence[Request], day: date, chosen: Iterable[Name]) -> int:
    """Count the requests of a day for the chosen probes."""
    names = set(chosen)
    return sum(request.day == day and request.name in names for request in requests)
