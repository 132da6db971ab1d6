"""The policy of the hot list: experts whose nights before decide which of them is listened to.

What is learned is a function of the days before, whoever reads them and in which batches; a day later it goes on from
there (prequentially: A. P. Dawid, JRSS A 147, 1984). A history begins 300 to 399 days back, at a day that is the same
for a hundred nights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from itertools import groupby

import numpy as np

from usage_service.hotlist.counts import LONG_AGO, NEVER, Bools, Columns, DayRow
from usage_service.hotlist.evidence import (
    ADDITIONS,
    DOUBT,
    LENGTHS,
    SIZES,
    Addition,
    Evidence,
    NightResult,
    Rule,
    no_evidence,
)
from usage_service.hotlist.experts import BETWEEN, DEFAULT, FadedCounts, measured, no_counts, padded
from usage_service.hotlist.ranking import caught_within, keys_of, ranking
from usage_service.hotlist.unviewed import NOTHING_VIEWED, Guess, Unviewed
from usage_service.probe_keys import Floats, Ints

HISTORY_BLOCK_DAYS, LEAST_HISTORY_DAYS = 100, 300
MOST_HISTORY_DAYS = LEAST_HISTORY_DAYS + HISTORY_BLOCK_DAYS
WEEKDAY_FADING = 0.5 ** (1 / 120)
WEEKDAY_DOUBT = 5.0  # views expected on a weekday, of which half the deviation is believed
MISSED_FADING = 0.5 ** (1 / 7)
NEW_DAYS, NEW_HALF_LIFE_DAYS = 90, 10.0
GRAIN = 2.0**20  # scores are rounded to its inverse before they are added up, so that their order does not matter


def history_begin(last: date) -> date:
    """Return the first day of the history that a list made of the days up to `last` learns from."""
    number = (last.toordinal() + 1 - LEAST_HISTORY_DAYS) // HISTORY_BLOCK_DAYS * HISTORY_BLOCK_DAYS
    return date.fromordinal(max(1, number))


def exact_sum(values: Floats) -> float:
    """Return the sum of the values, which does not depend on their order."""
    return float(np.rint(values * GRAIN).sum() / GRAIN)


@dataclass(frozen=True)
class Learned:
    """What is known at a night: faded counts of the days before, and the evidence of the nights before.

    `day` is the number (`toordinal`) of the day that the night is before. `on_weekday` are views by weekday and probe;
    `of_weekday` requests, and the number of days they are of, by weekday; `persons` the visitors of each day, added up.
    """

    columns: Columns
    day: int
    counts: FadedCounts
    on_weekday: Floats
    weekday_traffic: Floats
    of_weekday: Floats
    missed: Floats
    persons: Floats
    unviewed: Unviewed
    evidence: Evidence

    def with_columns(self, columns: Columns) -> Learned:
        """Return the same for more columns, of which the days before have nothing."""
        size = len(columns)
        return replace(
            self,
            columns=columns,
            counts=self.counts.with_columns(columns),
            on_weekday=padded(self.on_weekday, size),
            missed=padded(self.missed, size),
            persons=padded(self.persons, size),
        )

    def after(self, row: DayRow, learn: bool = True) -> Learned:
        """Return what is known after a day; when it is not over yet, its night is no evidence (`learn` is False)."""
        row = row.padded(len(self.columns))
        if not row.views.any() and not self.counts.rows:
            return replace(self, day=self.day + 1)
        counted, weekday = measured(row), (self.day + 6) % 7
        night = Night(self, self.day)
        views, traffic, asked = counted[BETWEEN], float(counted[BETWEEN].sum()), row.views.astype(np.float64)
        today = np.arange(7) == weekday
        return Learned(
            self.columns,
            self.day + 1,
            self.counts.after(counted, self.columns.registered, self.day),
            self.on_weekday * WEEKDAY_FADING + today[:, None] * views,
            self.weekday_traffic * WEEKDAY_FADING + today * traffic,
            self.of_weekday * np.where(today, 0.5 ** (1 / 4), 1.0) + today * [[float(row.views.sum())], [1.0]],
            self.missed * MISSED_FADING + np.minimum(row.missing, counted[0]),
            self.persons + counted[-1],
            self.unviewed.after(night.guess, self.columns, views) if traffic else self.unviewed,
            self.evidence.after(night.result(counted[0], asked), self.day + 1) if learn and traffic else self.evidence,
        )


def nothing_learned(columns: Columns, first: date) -> Learned:
    """Return what is known before the first day of a history."""
    size = len(columns)
    none, weekdays = np.zeros(size), np.zeros(7)
    return Learned(
        columns,
        first.toordinal(),
        no_counts(size),
        np.zeros((7, size)),
        weekdays,
        np.zeros((2, 7)),
        none,
        none,
        NOTHING_VIEWED,
        no_evidence(),
    )


def learned_of(columns: Columns, first: date, rows: Sequence[DayRow]) -> Learned:
    """Return what is known after the days from `first` on."""
    found = nothing_learned(columns, first)
    for row in rows:
        found = found.after(row)
    return found


@dataclass(frozen=True)
class Part:
    """Places of a list up to `end` that follow one rule; `sizes` are those of SIZES that chose it."""

    rule: Rule
    sizes: tuple[int, ...]
    end: int


class Night:
    """The list for a day: scores by each rule, the order of probes, and the share of the requests they should catch."""

    def __init__(self, learned: Learned, day: int) -> None:
        self.learned, self.columns, self.day = learned, learned.columns, day
        since = learned.counts.since
        self.seen: Bools = since < NEVER
        self.listable: Bools = self.columns.listable_at(learned.day)
        registered = self.columns.registered
        self.registered: Bools = (registered != LONG_AGO) & (registered < learned.day)
        # What was requested before it was registered is as old as what is not registered.
        self.age: Ints = learned.day - np.where(self.registered & (registered <= since), registered, LONG_AGO)

    @cached_property
    def scores(self) -> Floats:
        """Return the score of each probe that may be listed by each expert."""
        return np.asarray(self.learned.counts.scores * self.listable)

    def scores_of(self, expert: int) -> Floats:
        """Return the score of each probe that may be listed by one expert."""
        return np.asarray(self.learned.counts.scores_of(expert) * self.listable)

    @cached_property
    def guess(self) -> Guess:
        """Return what is expected of the probes that were never viewed."""
        return self.learned.unviewed.guess(self.columns, self.registered, self.seen, self.listable, self.learned.day)

    @cached_property
    def unviewed(self) -> Floats:
        """Return the share of the views expected of each probe that was never viewed, 0 for the others."""
        return self.guess.shares(len(self.columns))

    @cached_property
    def _likeliest(self) -> Ints:
        """Return the columns of the probes that were never viewed, the likeliest first."""
        return ranking(self.unviewed * self.learned.counts.usual_traffic, self.columns.ranks)

    @cached_property
    def reached(self) -> Floats:
        """Return the views expected of each of the likeliest unviewed probes, as far as past lists gained by them."""
        likeliest = self._likeliest[: self.learned.evidence.unviewed_places()]
        found = np.zeros(len(self.columns))
        found[likeliest] = self.unviewed[likeliest] * self.learned.counts.usual_traffic
        return found

    @cached_property
    def _weekday_share(self) -> Floats:
        """Return how much more each probe is viewed on the weekday than others are, as far as that is believed."""
        known = self.learned
        weekday, traffic = (self.day + 6) % 7, float(known.weekday_traffic.sum())
        if not traffic or not known.weekday_traffic[weekday]:
            return np.zeros(len(self.columns))
        expected = known.on_weekday.sum(axis=0) * (known.weekday_traffic[weekday] / traffic)
        came = known.on_weekday[weekday]
        return np.asarray((came - expected) / (expected + WEEKDAY_DOUBT))

    def addition(self, name: Addition, base: Floats) -> Floats:
        """Return what an addition adds to an expert's scores."""
        if name == "weekday":
            return base * self._weekday_share
        if name == "missed":
            return np.asarray(self.learned.missed * (1 - MISSED_FADING) * self.listable)
        if name == "unviewed":
            return self.reached
        new = (self.age >= 1) & (self.age <= NEW_DAYS) & self.seen & self.listable
        usual = exact_sum(base[new]) / max(1, int(new.sum()))
        return np.where(new, usual * 0.5 ** (np.clip(self.age, 0, NEW_DAYS) / NEW_HALF_LIFE_DAYS), 0.0)

    def score(self, rule: Rule) -> Floats:
        """Return the score of each probe by a rule."""
        base = self.scores_of(rule.expert)
        return np.asarray(base + sum((self.addition(name, base) for name in rule.additions), np.zeros(1)))

    @cached_property
    def _arranged(self) -> tuple[Ints, Floats, list[Part]]:
        """Return the order, the score of each place, and the parts of the list."""
        placed = np.zeros(len(self.columns), dtype=np.bool_)
        order, scores, parts = [], [], []
        chosen = enumerate(self.learned.evidence.rules())
        begin = 0
        for rule, group in groupby(chosen, key=lambda one: one[1]):
            sizes = tuple(size for size, _ in group)
            score = np.where(placed, 0.0, self.score(rule))
            own = ranking(score, self.columns.ranks)[: int(SIZES[sizes[-1]]) - begin]
            placed[own] = True
            order.append(own)
            scores.append(score[own])
            begin += len(own)
            parts.append(Part(rule, sizes, begin))
        last = np.where(placed, 0.0, self.reached)
        own = ranking(last, self.columns.ranks)
        return np.concatenate([*order, own]), np.concatenate([*scores, last[own]]), parts

    @property
    def order(self) -> Ints:
        """Return the columns of the list, best first."""
        return self._arranged[0]

    @property
    def rules(self) -> list[Rule]:
        """Return the rules of the parts of the list."""
        return [part.rule for part in self.parts]

    def rule_at(self, place: int) -> Rule | None:
        """Return the rule that a place of the list follows, or None for the unviewed probes that end it."""
        return next((part.rule for part in self.parts if place < part.end), None)

    @property
    def parts(self) -> list[Part]:
        """Return the parts of the list; unviewed probes may follow the last."""
        return self._arranged[2]

    @cached_property
    def unseen_share(self) -> tuple[float, float, float]:
        """Return the probability that the next person asks for a probe that nobody has asked for, with a 95 % interval.

        It is the number of probes with one visitor on one day over that of all such visits (I. J. Good, Biometrika 40,
        1953, after A. Turing); the interval is W. W. Esty's (Annals of Statistics 11, 1983).
        """
        persons = self.learned.persons
        total, once, twice = float(persons.sum()), int((persons == 1).sum()), int((persons == 2).sum())
        if not total:
            return 1.0, 0.0, 1.0
        share = once / total
        error = 1.96 * float(np.sqrt(once * (1 - share) + 2 * twice)) / total
        return share, max(0.0, share - error), min(1.0, share + error)

    @property
    def unseen_guess(self) -> float:
        """Return the probability of a probe that nobody asked for: Good's as long as few such requests came."""
        came = float(self.learned.unviewed.came[0])
        return (came * self.guess.share + DOUBT * self.unseen_share[0]) / (came + DOUBT)

    def result(self, requests: Floats, asked: Floats) -> NightResult:
        """Return what came of the night: who would have caught what of the requests as they count, and as they came."""
        ranks, rules = self.columns.ranks, self.learned.evidence.leaders()
        caught = caught_within(keys_of(self.scores, ranks), requests, SIZES)
        gained = np.zeros((len(ADDITIONS), len(SIZES)))
        for leader in sorted(set(rules)):
            tried = np.stack([self.score(Rule(leader, (name,))) for name in ADDITIONS])
            gain = caught_within(keys_of(tried, ranks), requests, SIZES) - caught[leader]
            own = np.array(rules) == leader
            gained[:, own] = gain[:, own]
        places = np.minimum(LENGTHS, len(self.order))
        listed = np.append(0.0, np.cumsum(asked[self.order]))[places]
        first = np.append(0.0, np.cumsum(asked[self.order] * ~self.seen[self.order]))[places]
        return NightResult(
            float(requests.sum()),
            float(asked.sum()),
            np.array([float((asked * ~self.seen).sum()), float(asked.sum()) * self.unseen_guess]),
            caught,
            gained,
            self._modelled[places],
            listed,
            first,
            self._reach(requests),
        )

    def _reach(self, requests: Floats) -> Floats:
        """Return the requests for the likeliest unviewed probes, and for as many of them at random, by number."""
        order = self._likeliest
        if not len(order):
            return np.zeros((2, len(LENGTHS)))
        numbers = np.minimum(LENGTHS, len(order))
        caught = np.append(0.0, np.cumsum(requests[order]))
        return np.stack([caught[numbers], caught[-1] * numbers / len(order)])

    @cached_property
    def _modelled(self) -> Floats:
        """Return the share of the requests that the first 0, 1, 2... places would catch if the scores were right."""
        order, scores, parts = self._arranged
        unseen = self.learned.evidence.unseen_share(self.unseen_guess)
        shares, begin = np.zeros(len(order)), 0
        for part in parts:
            own = slice(begin, part.end)
            everything = exact_sum(self.learned.counts.scores_of(part.rule.expert))
            shares[own] = scores[own] * self.seen[order[own]] / max(everything, 1e-9)
            begin = part.end
        usual = self.learned.counts.scores_of(DEFAULT)
        of_hidden, everything = exact_sum(usual * ~self.listable), exact_sum(usual)
        shares *= (1 - unseen) / max(float(shares.sum()) + of_hidden / max(everything, 1e-9), 1e-9)
        new = np.where(self.seen[order], 0.0, self.unviewed[order])
        shares += unseen * new / max(float(self.unviewed.sum()), 1e-9)
        return np.append(0.0, np.cumsum(shares))

    @cached_property
    def coverage(self) -> Floats:
        """Return the share of the requests that the first 0, 1, 2... places are expected to catch.

        It is what the scores say, corrected by what lists of that length caught of what the scores said: the chosen
        probes are those whose luck was high, and they do not keep it.
        """
        evidence, places = self.learned.evidence, np.minimum(LENGTHS, len(self.order))
        correction = evidence.correction(self._modelled[places])
        shares = self._modelled * np.interp(np.arange(len(self._modelled)), LENGTHS, correction)
        return np.asarray(np.maximum.accumulate(np.clip(shares, 0.0, 1.0)))

    def by_column(self, places: Floats) -> Floats:
        """Return values of places by column, 0 for probes that are not on the list."""
        found = np.zeros(len(self.columns))
        found[self.order] = places
        return found

    @property
    def place_scores(self) -> Floats:
        """Return the score of each place."""
        return self._arranged[1]

    @property
    def place_shares(self) -> Floats:
        """Return the share of the requests that each place is expected to catch."""
        return np.diff(self.coverage)

    @cached_property
    def requests(self) -> float:
        """Return the number of requests expected on the day, as on such weekdays lately."""
        sums, days = self.learned.of_weekday
        weekday = (self.day + 6) % 7
        return float(sums[weekday] / days[weekday] if days[weekday] else sums.sum() / max(days.sum(), 1.0))
