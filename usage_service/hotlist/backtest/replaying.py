"""What the hot list would have caught.

At each past night the list is made of what was known then, and held against the day that followed. What is known at a
night is what occurred before it; an event that arrived late counts as of when it occurred. A score is made from rows
before the night alone, so no policy but the clairvoyant one can see the day to come.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import msgspec
import numpy as np

from usage_service.hotlist.backtest.policies import CLAIRVOYANT, POLICIES, Policy, hot_list
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.scoring import HISTORY_DAYS, expected_coverage, ranking, score_parts
from usage_service.probe_keys import Counts, Floats, Ints
from usage_service.shared.errors import UserError
from usage_service.shared.progress import Report

BUDGETS = (25, 50, 100, 200, 500, 1_000, 2_000)
NIGHTS = 90


class BacktestError(UserError):
    """There is nothing to replay; the message says why."""


class PolicyResult(msgspec.Struct, frozen=True):
    """The share of the requests of all days that lists of each budget caught, and how long a list without one is."""

    policy: str
    caught: list[float]
    size: float
    caught_by_all: float


class Backtest(msgspec.Struct, frozen=True):
    """Shares of the `requests` on the days from `first_day` to `last_day`, a night before each.

    `expected` is the coverage that the hot list said it would have, budget by budget.
    """

    first_day: date
    last_day: date
    nights: int
    requests: int
    budgets: list[int]
    policies: list[PolicyResult]
    expected: list[float]


def backtest(counts: DayCounts, nights: int, budgets: Sequence[int], report: Report) -> Backtest:
    """Replays the last `nights` days that there are; raises BacktestError without a day to hold a list against."""
    targets = range(max(1, counts.days - nights), counts.days)
    requests = int(counts.views[targets.start :].sum()) if targets else 0
    if not requests:
        raise BacktestError("there are no requests on a day that has a day before it")
    results = []
    for done, (name, policy) in enumerate([*POLICIES.items(), (CLAIRVOYANT, hot_list)]):
        results.append(_replay(counts, targets, budgets, name, policy))
        report((done + 1) * len(targets))
    expected = _expected(counts, targets, budgets)
    first, last = counts.day(targets.start), counts.day(counts.days - 1)
    return Backtest(first, last, len(targets), requests, list(budgets), results, expected)


def lists_of(counts: DayCounts, policy: Policy, nights: Sequence[int]) -> list[Ints]:
    """The columns that a policy lists at each night, best first: of what it gives a score above 0."""
    return [_listed(counts, policy, night) for night in nights]


def _listed(counts: DayCounts, policy: Policy, night: int) -> Ints:
    score = policy(counts.between(night - HISTORY_DAYS, night), counts.day(night))
    return ranking(score, counts.ranks)[: np.count_nonzero(score > 0)]


def _clairvoyant(counts: DayCounts, night: int) -> Ints:
    asked = counts.views[night].astype(np.float64)
    return ranking(asked, counts.ranks)[: np.count_nonzero(asked)]


def _replay(counts: DayCounts, targets: range, budgets: Sequence[int], name: str, policy: Policy) -> PolicyResult:
    caught, size, by_all = np.zeros(len(budgets), dtype=np.int64), 0, 0
    for night in targets:
        chosen = _clairvoyant(counts, night) if name == CLAIRVOYANT else _listed(counts, policy, night)
        within = _caught_within(counts.views[night], chosen, budgets)
        caught, size, by_all = caught + within, size + len(chosen), by_all + int(counts.views[night][chosen].sum())
    requests = int(counts.views[targets.start :].sum())
    return PolicyResult(name, [int(one) / requests for one in caught], size / len(targets), by_all / requests)


def _caught_within(asked: Counts, chosen: Ints, budgets: Sequence[int]) -> Ints:
    """How many of a day's requests the first so many of a list catch."""
    caught = np.append(0, np.cumsum(asked[chosen], dtype=np.int64))
    return caught[np.minimum(budgets, len(chosen))]


def _expected(counts: DayCounts, targets: range, budgets: Sequence[int]) -> list[float]:
    """The mean over the nights, each as heavy as the requests of its day."""
    total: Floats = np.zeros(len(budgets))
    for night in targets:
        past = counts.between(night - HISTORY_DAYS, night)
        score = score_parts(past, counts.day(night)).score
        shares = expected_coverage(past, score, ranking(score, counts.ranks))
        total += np.append(0.0, shares)[np.minimum(budgets, len(shares))] * counts.views[night].sum()
    return [float(one) for one in total / counts.views[targets.start :].sum()]
