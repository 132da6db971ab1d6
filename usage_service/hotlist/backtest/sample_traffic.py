"""Realistic traffic from a fixed seed, to try the hot list on without any history.

Views of probes follow Zipf's law (G. K. Zipf, 1949; web requests: Breslau et al., INFOCOM 1999). People belong to teams
and mostly view the probes of their own team. Interest drifts as a random walk; after a release some probes are viewed
more for days; new probes are registered all the time and viewed most when they are new; some are viewed on one weekday;
weekends are quiet, and people reload. `HABITS` has kinds of traffic in which one of these is strong and others weak, so
that each way to choose probes meets the traffic that it is bad at. Nothing here knows how a hot list is made.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from usage_service.hotlist.counts import LONG_AGO, DayCounts, columns_of
from usage_service.probe_keys import Floats, Ints, ProbeKey

SEED = 20261124
DAY_SECONDS = 86_400
WEEKEND = 0.12  # of the traffic of other days
RELEASE_EVERY_DAYS = 28
RELEASE_FADES_DAYS, NEW_FADES_DAYS = 6.0, 12.0
KNOWN_EARLIER_DAYS = 365  # days before the traffic on which the first probes were registered
RELOADS = 0.25  # the probability of another view after each view
STUCK = 0.002  # share of views that leave a tab open, which reloads itself all day
STUCK_RELOADS = 60
MISSING = 0.1
METRIC_TYPE = "timing_distribution"
HEAVY_PROBES, HEAVY_MOVES_DAYS = 12, 45  # probes that the heavy user watches, and days until they are others

JsonObject = dict[str, Any]


class Habits(msgspec.Struct, frozen=True):
    """Habits of people: how their interest moves, and what moves it.

    `drift` is the standard deviation of a day's step of the logarithm of interest in a probe, `returns` the share of
    its way back that it goes in a day. Of all probes `released` get `release_factor` times the views after a release,
    `new` are registered during the traffic and get `new_factor` times the views at first, and `weekly` get
    `weekly_factor` times the views on one weekday. Of all views `own_team` are for the viewer's team, `heavy` are one
    person's, and `exploring` are for any probe of the team's part of the catalogue, whether or not it was ever viewed.
    """

    drift: float = 0.0
    returns: float = 0.0
    released: float = 0.0
    release_factor: float = 12.0
    new: float = 0.0
    new_factor: float = 15.0
    weekly: float = 0.0
    weekly_factor: float = 7.0
    own_team: float = 0.75
    heavy: float = 0.0
    exploring: float = 0.0


Kind = Literal[
    "mixed",
    "stationary",
    "drifting_fast",
    "drifting_slowly",
    "weekly",
    "releases",
    "new_probes",
    "heavy_user",
    "exploring",
]
HABITS: dict[Kind, Habits] = {
    "mixed": Habits(drift=0.05, released=0.03, new=0.15, weekly=0.1),
    "stationary": Habits(),
    "drifting_fast": Habits(drift=0.45, returns=0.1),
    "drifting_slowly": Habits(drift=0.1, returns=0.005),
    "weekly": Habits(weekly=0.5, weekly_factor=12.0),
    "releases": Habits(drift=0.03, released=0.08, release_factor=25.0),
    "new_probes": Habits(drift=0.03, new=0.7, new_factor=25.0),
    "heavy_user": Habits(drift=0.03, heavy=0.4),
    "exploring": Habits(drift=0.03, new=0.2, exploring=0.4),
}


class Shape(msgspec.Struct, frozen=True):
    """Size of the traffic: days, probes at the end, people, and the mean views of a person on a working day."""

    days: int = 180
    probes: int = 2_000
    people: int = 300
    views: float = 4.0
    teams: int = 20
    product: str = "fog"
    kind: Kind = "mixed"


@dataclass(frozen=True)
class Traffic:
    """Requests in the order of days, and the rows of the days of registration (LONG_AGO: before all days)."""

    shape: Shape
    first: date
    days: Ints
    people: Ints
    probes: Ints
    found: npt.NDArray[np.bool_]
    registered: Ints
    teams: Ints  # of the probes

    def name(self, probe: int) -> str:
        """Return the name of a probe, which begins with its team's part of the catalogue."""
        return f"area{self.teams[probe]:02d}_made_{probe:05d}"

    def counts(self) -> DayCounts:
        """Return the counts that the projections would hold of this traffic."""
        size = (self.shape.days, self.shape.probes)
        views, people, missing = (np.zeros(size, dtype=np.int32) for _ in range(3))
        np.add.at(views, (self.days, self.probes), 1)
        np.add.at(missing, (self.days[~self.found], self.probes[~self.found]), 1)
        visits = np.unique((self.days * self.shape.probes + self.probes) * self.shape.people + self.people)
        np.add.at(people.reshape(-1), visits // self.shape.people, 1)
        keys = [ProbeKey(self.shape.product, self.name(probe)) for probe in range(self.shape.probes)]
        registered = {key: self._registered(row) for key, row in zip(keys, self.registered.tolist(), strict=True)}
        types = dict.fromkeys(keys, METRIC_TYPE)
        return DayCounts(self.first, columns_of(keys, registered, types), views, people, missing)

    def _registered(self, row: int) -> date:
        return self.first + timedelta(days=max(row, -KNOWN_EARLIER_DAYS))

    def events(self) -> Iterator[JsonObject]:
        """Return the traffic as events for `usage-service import`, registrations first."""
        for probe, row in enumerate(self.registered.tolist()):
            data = {"type": METRIC_TYPE, "ping": "metrics"}
            yield self._event("probe_registered", self._registered(row), 0, probe, data)
        clock = np.random.default_rng(SEED).integers(0, DAY_SECONDS, len(self.days))
        for day, person, probe, found, second in zip(
            self.days.tolist(), self.people.tolist(), self.probes.tolist(), self.found.tolist(), clock.tolist(),
            strict=True,
        ):  # fmt: skip
            viewed = self._event("probe_viewed", self.first + timedelta(days=day), second, probe, {"found": found})
            yield viewed | {"visitor": f"person-{person}", "channel": "nightly"}

    def _event(self, kind: str, day: date, second: int, probe: int, data: JsonObject) -> JsonObject:
        at = datetime.combine(day, time(), UTC) + timedelta(seconds=second)
        named = {"product": self.shape.product, "probe": self.name(probe)}
        return {"type": kind, "occurred_at": at.isoformat(), **named, "data": data}


def generate_traffic(shape: Shape, first: date, seed: int = SEED) -> Traffic:
    """Make traffic; the same shape, first day and seed make the same."""
    dice = np.random.default_rng(seed)
    interest = _Interest(shape, first, dice)
    home = dice.integers(0, shape.teams, shape.people)
    keenness = dice.pareto(1.5, shape.people) + 0.3  # a few people view very much
    keenness /= keenness.sum()
    drawn = [_views_of_day(shape, first, row, interest, home, keenness, dice) for row in range(shape.days)]
    days = np.repeat(np.arange(shape.days), [len(probes) for _, probes in drawn])
    people, probes = (np.concatenate([one[part] for one in drawn]) for part in (0, 1))
    again = dice.geometric(1 - RELOADS, len(days))
    again += STUCK_RELOADS * (dice.random(len(days)) < STUCK)
    found = dice.random(len(days)) >= MISSING
    days, people, probes, found = (np.repeat(column, again) for column in (days, people, probes, found))
    return Traffic(shape, first, days, people, probes, found, interest.registered, interest.team)


class _Interest:
    """Interest in each probe on a day, as weights."""

    def __init__(self, shape: Shape, first: date, dice: np.random.Generator) -> None:
        self._first, self._dice, self._habits = first, dice, HABITS[shape.kind]
        self._usual = np.log(dice.permutation(1.0 / np.arange(1, shape.probes + 1)))
        self._away = np.zeros(shape.probes)  # of the logarithm of interest from the usual one
        self.team = dice.integers(0, shape.teams, shape.probes)
        new = dice.random(shape.probes) < self._habits.new
        self.registered = np.where(new, dice.integers(0, shape.days, shape.probes), LONG_AGO)
        self._released = np.full(shape.probes, LONG_AGO)
        weekly = dice.random(shape.probes) < self._habits.weekly
        self._weekday = np.where(weekly, dice.integers(0, 5, shape.probes), -1)
        self.watched = self.team[:0]  # by the heavy user

    def weights(self, row: int) -> Floats:
        """Return the weights of a day; to be called for one day after the other."""
        habits = self._habits
        self._away += self._dice.normal(0, habits.drift, len(self._away)) - habits.returns * self._away
        if row % RELEASE_EVERY_DAYS == RELEASE_EVERY_DAYS // 2:
            self._released[self._dice.random(len(self._away)) < habits.released] = row
        if row % HEAVY_MOVES_DAYS == 0:
            self.watched = self._dice.choice(len(self._away), HEAVY_PROBES)
        weights: Floats = np.exp(self._usual + self._away)
        weights *= 1 + habits.release_factor * _fading(row - self._released, RELEASE_FADES_DAYS)
        weights *= 1 + habits.new_factor * _fading(row - self.registered, NEW_FADES_DAYS)
        weights[self._weekday == (self._first.weekday() + row) % 7] *= habits.weekly_factor
        weights[self.registered > row] = 0
        return weights


def _fading(age: Ints, days: float) -> Floats:
    return np.asarray(np.exp(-np.maximum(age, 0) / days) * (age >= 0))


def _views_of_day(
    shape: Shape, first: date, row: int, interest: _Interest, home: Ints, keenness: Floats, dice: np.random.Generator
) -> tuple[Ints, Ints]:
    """Draw the people and the probes of the views of a day."""
    habits, weights = HABITS[shape.kind], interest.weights(row)
    quiet = WEEKEND if (first.weekday() + row) % 7 >= 5 else 1.0
    who = dice.choice(shape.people, dice.poisson(shape.people * shape.views * quiet), p=keenness)
    what = dice.choice(shape.probes, len(who), p=weights / weights.sum())
    own, explores = dice.random(len(who)) < habits.own_team, dice.random(len(who)) < habits.exploring
    for number in np.unique(home[who]):
        among = np.flatnonzero((interest.team == number) & (weights > 0))
        if len(among):
            mine = home[who] == number
            shares = weights[among] / weights[among].sum()
            what[mine & own] = dice.choice(among, (mine & own).sum(), p=shares)
            what[mine & explores] = dice.choice(among, (mine & explores).sum())
    heavy = dice.random(len(who)) < habits.heavy
    who[heavy], what[heavy] = 0, dice.choice(interest.watched, heavy.sum())
    return who, what
