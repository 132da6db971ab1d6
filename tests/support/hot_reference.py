"""Hot list and the requests it catches, in plain Python, one request at a time; shares no code with the service.

Everything is added up anew from the requests for each night: nothing is carried on from the night before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from math import floor, log2, sqrt
from typing import NamedTuple

Name = tuple[str, str]
Scores = dict[Name, float]
Expert = tuple[str, int, str]

EXPERTS: list[Expert] = [
    *(
        ("half_life", days, of)
        for of in ("requests", "between", "people")
        for days in (1, 2, 4, 7, 14, 28, 60, 90, 180)
    ),
    *(("most_viewed", days, "requests") for days in (7, 30, 90)),
]
DEFAULT = EXPERTS.index(("half_life", 28, "between"))
SIZES = (10, 25, 50, 100, 200, 500, 1_000, 2_000, 10_000)
ADDITIONS = ("weekday", "new", "missed", "unviewed")
LENGTHS = sorted({round(10_000 ** (step / 48)) for step in range(49)})
EVERY: Scores = {}  # stands for all unviewed probes, however far a list reaches
NEVER, ALWAYS = date(9000, 1, 1), date(1000, 1, 1)


class Request(NamedTuple):
    """A request for a probe."""

    day: date
    name: Name
    visitor: str | None
    found: bool


Rule = tuple[int, tuple[str, ...]]


class Reference:
    """What is known of requests and registrations, for lists of any night."""

    def __init__(self, requests: Iterable[Request], registered: Mapping[Name, date]) -> None:
        self.registered = dict(registered)
        self.cells: dict[tuple[Name, date], list[Request]] = defaultdict(list)
        self.first_view: dict[Name, date] = {}
        for request in requests:
            self.cells[request.name, request.day].append(request)
            self.first_view[request.name] = min(request.day, self.first_view.get(request.name, NEVER))
        self.names = sorted(set(self.first_view) | set(registered))
        self.days_of: dict[Name, list[date]] = defaultdict(list)
        for name, day in sorted(self.cells):
            self.days_of[name].append(day)
        self.begin = min(self.first_view.values(), default=NEVER)
        self.viewed, self.candidates = cache(self._viewed), cache(self._candidates)
        self.trust, self.places = cache(self._trust), cache(self._places)
        self.counted, self.traffic, self.leader = cache(self._counted), cache(self._traffic), cache(self._leader)
        self.scored, self.best, self.gains = cache(self._scored), cache(self._best), cache(self._gains)
        self.rules = cache(self._rules)
        self.guessed = cache(self._guessed)
        self.factors = cache(self._factors)
        self.faded, self.nights, self.first_views = cache(self._faded), cache(self._nights), cache(self._first_views)
        self.level, self.heat, self.known_from = cache(self._level), cache(self._heat), cache(self._known_from)

    def days(self, night: date) -> list[date]:
        """Return the days before a night, from the first request on."""
        return [self.begin + timedelta(days=number) for number in range((night - self.begin).days)]

    def _counted(self, name: Name, day: date, of: str) -> float:
        """Return the requests of a probe on a day, its people, or their geometric mean."""
        own = self.cells.get((name, day), [])
        people = max(1, len({one.visitor for one in own if one.visitor is not None})) if own else 0
        usual = min(len(own), 3 * people)
        requests = round((usual + (len(own) - usual) * self.trust(day)) * 1024) / 1024
        return {"requests": requests, "people": people, "between": round(sqrt(requests * people) * 1024) / 1024}[of]

    def _trust(self, day: date) -> float:
        """Return the weight of what people request of a probe beyond three times: in all, half of the rest at most."""
        usual = again = 0
        for name in self.names:
            own = self.cells.get((name, day), [])
            people = max(1, len({one.visitor for one in own if one.visitor is not None})) if own else 0
            usual, again = usual + min(len(own), 3 * people), again + max(0, len(own) - 3 * people)
        return min(1.0, usual / max(1, 2 * again))

    def _traffic(self, day: date) -> float:
        """Return the views of all probes on a day."""
        return sum(self.counted(name, day, "between") for name in self.names)

    def _viewed(self, name: Name, night: date) -> list[date]:
        """Return the days before a night on which a probe was requested."""
        return [day for day in self.days_of.get(name, []) if day < night]

    def seen(self, name: Name, night: date) -> bool:
        """Return whether a probe was requested before a night."""
        return self.first_view.get(name, NEVER) < night

    def _known_from(self, name: Name, night: date) -> date:
        """Return the day of registration; what is not registered, or was requested before, was always known."""
        registered = self.registered.get(name, NEVER)
        told = registered < night and registered <= self.first_view.get(name, NEVER)
        return registered if told else ALWAYS

    def age(self, name: Name, night: date) -> int:
        """Return the days since a probe was known."""
        return (night - self.known_from(name, night)).days

    def _scored(self, expert: int, night: date) -> Scores:
        kind, length, of = EXPERTS[expert]
        days = self.days(night)
        if kind == "most_viewed":
            window = {day for day in days if (night - day).days <= length}
            viewed = {name: [day for day in self.viewed(name, night) if day in window] for name in self.names}
            return {n: sum(self.counted(n, day, of) for day in viewed[n]) / max(1, len(window)) for n in self.names}
        weights = {day: 0.5 ** (((night - day).days - 1) / length) for day in days}
        everything = sum(weight * self.traffic(day) for day, weight in weights.items())
        active = sum(weight for day, weight in weights.items() if self.traffic(day))
        least = sum(weight * self.traffic(day) for day, weight in weights.items() if (night - day).days <= 7)
        found = {}
        for name in self.names:
            own = sum(weights[day] * self.counted(name, day, of) for day in self.viewed(name, night))
            after = [day for day in days if own and day >= self.known_from(name, night)]
            exposure = max(least, sum(weights[day] * self.traffic(day) for day in after))
            found[name] = own / exposure * everything / active if own else 0.0
        return found

    def added(self, addition: str, base: Scores, night: date) -> Scores:
        """Return what an addition adds to an expert's scores for the day after a night."""
        if addition == "missed":
            return {
                name: sum(
                    0.5 ** (((night - day).days - 1) / 7) * self._missed(name, day) for day in self.viewed(name, night)
                )
                * (1 - 0.5 ** (1 / 7))
                for name in self.names
            }
        if addition == "new":
            new = [name for name in self.names if 1 <= self.age(name, night) <= 90 and self.seen(name, night)]
            usual = sum(base[name] for name in new) / max(1, len(new))
            return {name: usual * 0.5 ** (self.age(name, night) / 10) if name in new else 0.0 for name in self.names}
        if addition == "unviewed":
            weights = {day: 0.5 ** (((night - day).days - 1) / 28) for day in self.days(night)}
            active = sum(weight for day, weight in weights.items() if self.traffic(day))
            usual = sum(weight * self.traffic(day) for day, weight in weights.items()) / active if active else 0.0
            found = {name: share * usual for name, share in self.unviewed(night).items()}
            return found if base is EVERY else {name: found[name] for name in ranked(found)[: self.places(night)]}
        return self._weekday(base, night)

    def _missed(self, name: Name, day: date) -> float:
        missing = sum(not one.found for one in self.cells.get((name, day), []))
        return min(missing, self.counted(name, day, "requests"))

    def _weekday(self, base: Scores, night: date) -> Scores:
        weights = {day: 0.5 ** (((night - day).days - 1) / 120) for day in self.days(night)}
        same = {day: weight for day, weight in weights.items() if day.weekday() == night.weekday()}
        everything = sum(weight * self.traffic(day) for day, weight in weights.items())
        share = sum(weight * self.traffic(day) for day, weight in same.items()) / everything if everything else 0.0
        if not share:
            return dict.fromkeys(self.names, 0.0)
        found = {}
        for name in self.names:
            views = {day: weights[day] * self.counted(name, day, "between") for day in self.viewed(name, night)}
            came = sum(own for day, own in views.items() if day in same)
            expected = share * sum(views.values())
            found[name] = base[name] * (came - expected) / (expected + 5)
        return found

    def score(self, rule: Rule, night: date) -> Scores:
        """Return the scores by a rule."""
        base = self.scored(rule[0], night)
        added = [self.added(addition, base, night) for addition in rule[1]]
        return {name: base[name] + sum(one.get(name, 0.0) for one in added) for name in self.names}

    def _best(self, rule: Rule, night: date) -> list[float]:
        """Return the requests of the day after a night for the probes by a rule, best first."""
        return [self.counted(name, night, "requests") for name in ranked(self.score(rule, night))]

    def _rules(self, night: date) -> tuple[Rule, ...]:
        leaders = [self.leader(size, night) for size in SIZES]
        return tuple(
            (leader, tuple(name for name in ADDITIONS if self.gains(name, size, night)))
            for leader, size in zip(leaders, SIZES, strict=True)
        )

    def _nights(self, night: date) -> dict[date, float]:
        """Return how much the nights before weigh."""
        return {day: 0.5 ** (((night - day).days - 1) / 90) for day in self.days(night) if self.traffic(day)}

    def _leader(self, size: int, night: date) -> int:
        weights = self.nights(night)
        caught = [
            sum(weight * sum(self.best((expert, ()), day)[:size]) for day, weight in weights.items())
            + 10 * (expert == DEFAULT)
            for expert in range(len(EXPERTS))
        ]
        return caught.index(max(caught))

    def _gains(self, addition: str, size: int, night: date) -> bool:
        gained = spread = 0.0
        for day, weight in self.nights(night).items():
            leader = self.leader(size, day)
            more = sum(self.best((leader, (addition,)), day)[:size])
            gain = weight * (more - sum(self.best((leader, ()), day)[:size]))
            gained, spread = gained + gain, spread + gain**2
        return gained > 10 + sqrt(spread)

    # What nobody has viewed yet.

    def _candidates(self, night: date) -> list[Name]:
        """Return the registered probes that nobody has requested before a night."""
        return [name for name in self.names if self.registered.get(name, NEVER) < night and not self.seen(name, night)]

    def unviewed(self, night: date) -> Scores:
        """Return the share of the traffic that is expected for each probe that nobody has requested."""
        stages, weights = self.guessed(night), self.faded(night, 60)
        came = sum(weight * self.first_views(day) for day, weight in weights.items())
        chances = sum(w * len(self.candidates(day)) * self.traffic(day) for day, w in weights.items())
        share = min(1.0, came / max(chances, 1.0) * len(self.candidates(night)))
        return {name: share * stages[-1].get(name, 0.0) for name in self.names}

    def _faded(self, night: date, half_life: int) -> dict[date, float]:
        return {
            day: 0.5 ** (sum(1 for other in self.days(night) if other > day and self.traffic(other)) / half_life)
            for day in self.days(night)
            if self.traffic(day)
        }

    def _first_views(self, day: date) -> float:
        return sum(self.counted(name, day, "between") for name in self.candidates(day))

    def _guessed(self, night: date) -> tuple[Scores, ...]:
        """Return the probability of each candidate, before the first trait and after each."""
        names = self.candidates(night)
        likely = {name: 1 / len(names) for name in names}
        stages = [likely]
        for trait in range(6):
            factor = self.factors(trait, night)
            likely = {name: one * factor.get(self.level(trait, name, night), 1.0) for name, one in likely.items()}
            likely = {name: one / sum(likely.values()) for name, one in likely.items()}
            stages.append(likely)
        return tuple(stages)

    def _factors(self, trait: int, night: date) -> dict[object, float]:
        came: dict[object, float] = defaultdict(float)
        expected: dict[object, float] = defaultdict(float)
        for day, weight in self.faded(night, 60).items():
            stage = self.guessed(day)[trait]
            for name in self.candidates(day):
                level = self.level(trait, name, day)
                came[level] += weight * self.counted(name, day, "between")
                expected[level] += weight * stage[name] * self.first_views(day)
        return {level: (came[level] + 2) / (expected[level] + 2) for level in came}

    def _level(self, trait: int, name: Name, night: date) -> object:
        words = name[1].replace(".", "_").split("_")
        if trait < 2:
            return name[0], *words[: trait + 1]
        if trait == 2:
            return None  # the type, which these probes have in common
        if trait == 3:
            age = (night - self.registered[name]).days
            return sum(age >= bound for bound in (1, 3, 8, 15, 29, 61, 181, 366))
        return self.heat(self.level(trait - 4, name, night), trait - 4, night)

    def _heat(self, group: object, trait: int, night: date) -> int:
        real = [n for n in self.names if self.seen(n, night) or self.registered.get(n, NEVER) < night]
        members = [name for name in real if self.level(trait, name, night) == group]
        weights = self.faded(night, 3)
        heat = sum(w * self.counted(name, day, "between") for day, w in weights.items() for name in members)
        usual = sum(weight * self.traffic(day) for day, weight in weights.items()) / max(1, len(real)) * len(members)
        return min(3, max(-4, floor(log2(max(heat / usual if usual else 0.0, 2**-4)))))

    def _places(self, night: date) -> int:
        """Return how many unviewed probes end a list."""
        best, places = 0.0, 0
        for length in LENGTHS:
            lead = 0.0
            for day, weight in self.nights(night).items():
                order = ranked(self.added("unviewed", EVERY, day))
                came = [self.counted(name, day, "requests") for name in order]
                lead += weight * (sum(came[:length]) - sum(came) * min(length, len(came)) / max(1, len(came)))
            if lead > best + 1e-9:
                best, places = lead, length
        return places if best > 10 else 0

    def listed(self, night: date) -> list[tuple[Name, float]]:
        """Return the list of a night with the scores, best first."""
        found: dict[Name, float] = {}
        for rule, size in zip(self.rules(night), SIZES, strict=True):
            scores = {name: score for name, score in self.score(rule, night).items() if name not in found}
            found |= {name: scores[name] for name in ranked(scores)[: size - len(found)]}
        last = {name: one for name, one in self.added("unviewed", {}, night).items() if name not in found}
        found |= {name: last[name] for name in ranked(last)}
        return list(found.items())


def ranked(found: Scores) -> list[Name]:
    """Rank the probes with a score above 0, best first, equals by name."""
    steps = {name: round(score * 10**7) for name, score in found.items()}
    return sorted((name for name, step in steps.items() if step > 0), key=lambda name: (-steps[name], name))


def caught(requests: Sequence[Request], day: date, chosen: Iterable[Name]) -> int:
    """Count the requests of a day for the chosen probes."""
    names = set(chosen)
    return sum(request.day == day and request.name in names for request in requests)
