"""Realistic traffic from a fixed seed, to try the hot list on without any history.

Views of probes follow Zipf's law (G. K. Zipf, 1949; web requests: Breslau et al., INFOCOM 1999). People belong to teams
and mostly view the probes of their own team. Interest drifts as a random walk; after a release some probes are viewed
more for days; new probes are registered all the time and viewed most when they are new; some are viewed on one weekday;
weekends are quiet, and people reload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from usage_service.hotlist.counts import LONG_AGO, DayCounts
from usage_service.probe_keys import Floats, Ints, ProbeKey, ranks_of

SEED = 20261124
DAY_SECONDS = 86_400
WEEKEND = 0.12  # of the traffic of other days
DRIFT = 0.05  # standard deviation of a day's step of the logarithm of interest
OWN_TEAM = 0.75
RELEASE_EVERY_DAYS = 28
RELEASED_SHARE, RELEASE_FACTOR, RELEASE_FADES_DAYS = 0.03, 12.0, 6.0
NEW_FACTOR, NEW_FADES_DAYS, NEW_SHARE = 15.0, 12.0, 0.15
WEEKLY_SHARE, WEEKLY_FACTOR = 0.1, 7.0
RELOADS = 0.25  # the probability of another view after each view
STUCK = 0.002  # share of views that leave a tab open, which reloads itself all day
STUCK_RELOADS = 60
MISSING = 0.1

JsonObject = dict[str, Any]


class Shape(msgspec.Struct, frozen=True):
    """Size of the traffic: days, probes at the end, people, and the mean views of a person on a working day."""

    days: int = 180
    probes: int = 2_000
    people: int = 300
    views: float = 4.0
    teams: int = 20
    product: str = "fog"


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

    def name(self, probe: int) -> str:
        """Return the name of a probe."""
        return f"made_{probe:05d}"

    def counts(self) -> DayCounts:
        """Return the counts that the projections would hold of this traffic."""
        size = (self.shape.days, self.shape.probes)
        views, people, missing = (np.zeros(size, dtype=np.int32) for _ in range(3))
        np.add.at(views, (self.days, self.probes), 1)
        np.add.at(missing, (self.days[~self.found], self.probes[~self.found]), 1)
        visits = np.unique((self.days * self.shape.probes + self.probes) * self.shape.people + self.people)
        np.add.at(people.reshape(-1), visits // self.shape.people, 1)
        keys = [ProbeKey(self.shape.product, self.name(probe)) for probe in range(self.shape.probes)]
        return DayCounts(self.first, keys, views, people, missing, self.registered, ranks_of(keys))

    def events(self) -> Iterator[JsonObject]:
        """Return the traffic as events for `usage-service import`, registrations first."""
        for probe, row in enumerate(self.registered):
            day = self.first + timedelta(days=max(int(row), -365))
            yield self._event("probe_registered", day, 0, probe, {"type": "timing_distribution", "ping": "metrics"})
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
    return Traffic(shape, first, days, people, probes, found, interest.registered)


class _Interest:
    """Interest in each probe on a day, as weights."""

    def __init__(self, shape: Shape, first: date, dice: np.random.Generator) -> None:
        self._first, self._dice = first, dice
        self._logs = np.log(dice.permutation(1.0 / np.arange(1, shape.probes + 1)))
        self.team = dice.integers(0, shape.teams, shape.probes)
        new = dice.random(shape.probes) < NEW_SHARE
        self.registered = np.where(new, dice.integers(0, shape.days, shape.probes), LONG_AGO)
        self._released = np.full(shape.probes, LONG_AGO)
        weekly = dice.random(shape.probes) < WEEKLY_SHARE
        self._weekday = np.where(weekly, dice.integers(0, 5, shape.probes), -1)

    def weights(self, row: int) -> Floats:
        """Return the weights of a day; to be called for one day after the other."""
        self._logs += self._dice.normal(0, DRIFT, len(self._logs))
        if row % RELEASE_EVERY_DAYS == RELEASE_EVERY_DAYS // 2:
            self._released[self._dice.random(len(self._logs)) < RELEASED_SHARE] = row
        weights: Floats = np.exp(self._logs)
        weights *= 1 + RELEASE_FACTOR * _fading(row - self._released, RELEASE_FADES_DAYS)
        weights *= 1 + NEW_FACTOR * _fading(row - self.registered, NEW_FADES_DAYS)
        weights[self._weekday == (self._first.weekday() + row) % 7] *= WEEKLY_FACTOR
        weights[self.registered > row] = 0
        return weights


def _fading(age: Ints, days: float) -> Floats:
    return np.asarray(np.exp(-np.maximum(age, 0) / days) * (age >= 0))


def _views_of_day(
    shape: Shape, first: date, row: int, interest: _Interest, home: Ints, keenness: Floats, dice: np.random.Generator
) -> tuple[Ints, Ints]:
    """Draw the people and the probes of the views of a day."""
    weights = interest.weights(row)
    quiet = WEEKEND if (first.weekday() + row) % 7 >= 5 else 1.0
    who = dice.choice(shape.people, dice.poisson(shape.people * shape.views * quiet), p=keenness)
    what = dice.choice(shape.probes, len(who), p=weights / weights.sum())
    own = dice.random(len(who)) < OWN_TEAM
    for number in np.unique(home[who[own]]):
        among = np.flatnonzero(interest.team == number)
        mine = own & (home[who] == number)
        if weights[among].sum() > 0:
            what[mine] = dice.choice(among, mine.sum(), p=weights[among] / weights[among].sum())
    return who, what
