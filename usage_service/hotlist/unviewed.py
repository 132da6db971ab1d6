"""Probes that nobody has viewed yet: how likely each is to be viewed next, learned from those that were viewed first.

The requests expected for such a probe are those of any, times a factor for each of its traits in turn: the first words
of its name, its type, how long it has been registered, and how much its neighbours by name are viewed just now. The
factor of a trait is what came over what the factors before it expected (a Poisson model, fitted stage by stage as in
boosting: J. H. Friedman, Annals of Statistics 29, 2001), drawn towards 1 while little came.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from usage_service.hotlist.counts import Bools, Columns
from usage_service.hotlist.experts import padded
from usage_service.probe_keys import Floats, Ints

DOUBT = 2.0  # requests that came and were expected, with which each factor begins
FADING = 0.5 ** (1 / 60)
HEAT_FADING = 0.5 ** (1 / 3)
AGE_DAYS = np.array([1, 3, 8, 15, 29, 61, 181, 366])  # a probe's age falls between two of them
COLDEST, HOTTEST = -3, 3  # powers of two of the views of neighbours over those of all
GRAIN = 2.0**40  # shares are rounded to its inverse, so that sums do not depend on their order
NAMED = (0, 1)  # the traits that are words of the name
TRAIT_WORDS = ("first word of its name", "first words of its name", "type", "age", "neighbours", "nearest neighbours")


@dataclass(frozen=True)
class Guess:
    """Share of the traffic expected for probes that were never viewed, and the probability of each, a row a stage.

    Each stage is the one before it, times the factors of a trait; the last row is the result.
    """

    probes: Ints  # columns
    levels: Ints
    stages: Floats
    share: float

    def why(self, column: int) -> tuple[float, int]:
        """Return how many times as likely as the average a probe is, and the trait that does most for it."""
        own = self.stages[:, int(np.flatnonzero(self.probes == column)[0])]
        return float(own[-1] * len(self.probes)), int(np.argmax(own[1:] / np.maximum(own[:-1], 1e-300)))

    def shares(self, columns: int) -> Floats:
        """Return the share of the traffic expected for each column, 0 for probes that were viewed."""
        expected = np.zeros(columns)
        expected[self.probes] = np.rint(self.stages[-1] * self.share * GRAIN) / GRAIN
        return expected


@dataclass(frozen=True)
class Unviewed:
    """What came and what was expected, of all and by the level of each trait; and the views of neighbours by name."""

    came: Floats  # of all: views, and the probes that might have got some times the traffic
    levels: tuple[Floats, ...]  # a trait each: two rows, came and expected, by level
    heat: tuple[Floats, ...]  # faded views by level of the traits NAMED
    traffic: float  # faded views of all

    def guess(self, columns: Columns, registered: Bools, seen: Bools, listable: Bools, day: int) -> Guess:
        """Return the share of a day's traffic expected for each probe in the catalogue that was never viewed."""
        probes = np.flatnonzero(registered & ~seen & listable)
        levels = np.stack([*columns.traits[:, probes], *self._moving(columns, registered | seen, probes, day)])
        likely = np.full(len(probes), 1 / max(1, len(probes)))
        stages = [likely]
        for number, level in enumerate(levels):
            came, expected = padded(self.levels[number], 1 + int(level.max(initial=0)))
            likely = likely * ((came[level] + DOUBT) / (expected[level] + DOUBT))
            likely = np.rint(likely * GRAIN)
            likely = likely / max(float(likely.sum()), 1.0)
            stages.append(likely)
        share = min(1.0, float(self.came[0] / max(self.came[1], 1.0)) * len(probes))
        return Guess(probes, levels, np.stack(stages), share)

    def _moving(self, columns: Columns, known: Bools, probes: Ints, day: int) -> list[Ints]:
        """Return the levels of the traits that change: a probe's age, and the heat of its neighbours."""
        found = [np.searchsorted(AGE_DAYS, day - columns.registered[probes], side="right")]
        for number in NAMED:
            trait = columns.traits[number]
            size = 1 + int(trait.max(initial=0))
            heat, members = padded(self.heat[number], size), np.bincount(trait, weights=known, minlength=size)
            usual = self.traffic / max(float(members.sum()), 1.0)
            ratio = np.divide(heat, usual * members, out=np.zeros(size), where=usual * members > 0)
            power = np.floor(np.log2(np.maximum(ratio, 2.0 ** (COLDEST - 1))))
            found.append((np.clip(power, COLDEST - 1, HOTTEST) - COLDEST + 1).astype(np.int64)[trait[probes]])
        return found

    def after(self, guess: Guess, columns: Columns, views: Floats) -> Unviewed:
        """Return what is known after a day with such views of each probe, of which `guess` was expected."""
        came, traffic = views[guess.probes], float(views.sum())
        levels = []
        for number, level in enumerate(guess.levels):
            likely = np.rint(guess.stages[number] * GRAIN)
            sums = np.stack([np.bincount(level, one, 1).astype(np.float64) for one in (came, likely)])
            sums[1] *= float(came.sum()) / GRAIN
            size = max(sums.shape[1], self.levels[number].shape[1])
            levels.append(padded(self.levels[number], size) * FADING + padded(sums, size))
        heat = []
        for number in NAMED:
            sums_by_name = np.bincount(columns.traits[number], weights=views)
            heat.append(padded(self.heat[number], len(sums_by_name)) * HEAT_FADING + sums_by_name)
        of_all = self.came * FADING + np.array([came.sum(), len(came) * traffic])
        return Unviewed(of_all, tuple(levels), tuple(heat), self.traffic * HEAT_FADING + traffic)


NOTHING_VIEWED = Unviewed(
    np.zeros(2), tuple(np.zeros((2, 0)) for _ in TRAIT_WORDS), tuple(np.zeros(0) for _ in NAMED), 0.0
)
