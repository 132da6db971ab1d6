"""Replay of past nights: the share of requests that the hot list and other policies would have caught.

For each past night a list is made of what was known then, and compared with the requests of the day that followed.
Known at a night are the events that occurred before it; an event that arrived late counts as of when it occurred. A
score is made from the rows before the night alone, so no policy but the clairvoyant one can see the next day.
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
    """Error when there is nothing to replay; the message says why."""


class PolicyResult(msgspec.Struct, frozen=True):
    """Shares of all requests that a policy's lists caught, by budget.

    Without a budget a list has `size` probes on average, and the lists caught the share `caught_by_all`.
    """

    policy: str
    caught: list[float]
    size: float
    caught_by_all: float


class Backtest(msgspec.Struct, frozen=True):
    """Result of a backtest: shares of the `requests` on the days from `first_day` to `last_day`, a night before each.

    `expected` is the coverage that the hot list expected, budget by budget.
    """

    first_day: date
    last_day: date
    nights: int
    requests: int
    budgets: list[int]
    policies: list[PolicyResult]
    expected: list[float]


def backtest(counts: DayCounts, nights: int, budgets: Sequence[int], report: Report) -> Backtest:
    """Replay the nights before the last `nights` days.

    Raise BacktestError when there is no request on a day that has a day before it.
    """
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


def list_at(night: int, counts: DayCounts, policy: Policy) -> Ints:
    """Return the columns that a policy lists at a night, best first: those with a score above 0."""
    score = policy(counts.between(night - HISTORY_DAYS, night), counts.day(night))
    return ranking(score, counts.ranks)[: np.count_nonzero(score > 0)]


def _clairvoyant(counts: DayCounts, night: int) -> Ints:
    asked = counts.views[night].astype(np.float64)
    return ranking(asked, counts.ranks)[: np.count_nonzero(asked)]


def _replay(counts: DayCounts, targets: range, budgets: Sequence[int], name: str, policy: Policy) -> PolicyResult:
    caught, size, by_all = np.zeros(len(budgets), dtype=np.int64), 0, 0
    for night in targets:
        chosen = _clairvoyant(counts, night) if name == CLAIRVOYANT else list_at(night, counts, policy)
        within = _caught_within(counts.views[night], chosen, budgets)
        caught, size, by_all = caught + within, size + len(chosen), by_all + int(counts.views[night][chosen].sum())
    requests = int(counts.views[targets.start :].sum())
    return PolicyResult(name, [int(one) / requests for one in caught], size / len(targets), by_all / requests)


def _caught_within(asked: Counts, chosen: Ints, budgets: Sequence[int]) -> Ints:
    """Return the number of a day's requests that the first `budget` columns of a list catch, for each budget."""
    caught = np.append(0, np.cumsum(asked[chosen], dtype=np.int64))
    return caught[np.minimum(budgets, len(chosen))]


def _expected(counts: DayCounts, targets: range, budgets: Sequence[int]) -> list[float]:
    """Return the mean of the expected coverage over the nights, weighted by the requests of the next day."""
    total: Floats = np.zeros(len(budgets))
    for night in targets:
        past = counts.between(night - HISTORY_DAYS, night)
        score = score_parts(past, counts.day(night)).score
        shares = expected_coverage(past, score, ranking(score, counts.ranks))
        total += np.append(0.0, shares)[np.minimum(budgets, len(shares))] * counts.views[night].sum()
    return [float(one) for one in total / counts.views[targets.start :].sum()]
