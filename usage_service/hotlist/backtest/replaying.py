"""Replay of past nights: the share of requests that the hot list and other policies would have caught.

For each past night a list is made of what was known then, and compared with the requests of the day that followed.
Known at a night are the events that occurred before it; an event that arrived late counts as of when it occurred. A
list is made from the rows before the night alone, so no policy but the clairvoyant one can see the next day. What may
not be listed at a night is on no policy's list; requests for it count, and nobody catches them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

import msgspec
import numpy as np

from usage_service.hotlist.backtest.differences import Difference, differences
from usage_service.hotlist.backtest.policies import CLAIRVOYANT, HOT_LIST, Past, new_policies
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.experts import EXPERTS
from usage_service.hotlist.learning import Night, history_begin, learned_of
from usage_service.hotlist.ranking import caught_within, keys_of
from usage_service.probe_keys import Floats, Ints
from usage_service.shared.errors import UserError
from usage_service.shared.progress import Report

BUDGETS = (25, 50, 100, 200, 500, 1_000, 2_000)
NIGHTS = 90
WITHOUT_LIMIT = 1_000_000


class BacktestError(UserError):
    """Error when there is nothing to replay; the message says why."""


class PolicyResult(msgspec.Struct, frozen=True):
    """Shares of all requests that a policy's lists caught, by budget.

    Without a budget a list has `size` probes on average, and the lists caught the share `caught_by_all`.
    `hot_list_ahead` says by budget how much more the hot list caught; it is empty for the hot list itself.
    """

    policy: str
    caught: list[float]
    size: float
    caught_by_all: float
    hot_list_ahead: list[Difference]


class Hindsight(msgspec.Struct, frozen=True):
    """Expert that would have caught most if it had been followed on all nights, as is known only afterwards."""

    rule: str
    caught: float


class Backtest(msgspec.Struct, frozen=True):
    """Result of a backtest: shares of the `requests` on the days from `first_day` to `last_day`, a night before each.

    Requests for probes that may not be listed count, too, and no policy catches them. `expected` is the coverage that
    the hot list expected, budget by budget; `unviewed` the share of the requests that it caught with probes that nobody
    had viewed before; `hindsight` the best of the experts that it chooses from.
    """

    first_day: date
    last_day: date
    nights: int
    requests: int
    budgets: list[int]
    policies: list[PolicyResult]
    expected: list[float]
    unviewed: list[float]
    hindsight: list[Hindsight]


def backtest(counts: DayCounts, nights: int, budgets: Sequence[int], report: Report) -> Backtest:
    """Replay the nights before the last `nights` days.

    Raise BacktestError when there is no request on a day that has a day before it.
    """
    targets = range(max(1, counts.days - nights), counts.days)
    requests = counts.views[targets.start :].sum(axis=1).astype(np.float64) if targets else np.zeros(0)
    if not requests.sum():
        raise BacktestError("there are no requests on a day that has a day before it")
    names, rooms = list(new_policies()), [*budgets, WITHOUT_LIMIT]
    caught = np.zeros((len(names), len(rooms), len(targets)))
    sizes, expected, unviewed = np.zeros(len(names)), np.zeros(len(budgets)), np.zeros(len(budgets))
    experts = np.zeros((len(EXPERTS), len(budgets)))
    for done, (night, lists) in enumerate(lists_at_nights(counts, targets, rooms)):
        asked = counts.views[targets[done]]
        for number, name in enumerate(names):
            caught[number, :, done] = [asked[one].sum() for one in lists[name]]
            sizes[number] += len(lists[name][-1])
        places = np.minimum(budgets, len(night.order))
        expected += requests[done] * night.coverage[places]
        unviewed += np.append(0, np.cumsum(asked[night.order] * ~night.seen[night.order]))[places]
        experts += caught_within(keys_of(night.scores, counts.ranks), asked.astype(np.float64), np.array(budgets))
        report(done + 1)
    return Backtest(
        counts.day(targets.start),
        counts.day(counts.days - 1),
        len(targets),
        int(requests.sum()),
        list(budgets),
        _results(names, caught, sizes / len(targets), requests),
        [float(one) for one in expected / requests.sum()],
        [float(one) for one in unviewed / requests.sum()],
        _hindsight(experts / requests.sum()),
    )


def _hindsight(shares: Floats) -> list[Hindsight]:
    best = shares.argmax(axis=0)
    return [Hindsight(EXPERTS[expert].words, float(shares[expert, place])) for place, expert in enumerate(best)]


def _results(names: Sequence[str], caught: Floats, sizes: Floats, requests: Floats) -> list[PolicyResult]:
    """Return the shares of each policy; the clairvoyant one is no policy to be compared with."""
    shares = (caught.sum(axis=2) / requests.sum()).tolist()
    own = names.index(HOT_LIST)
    others = [number for number, name in enumerate(names) if name not in (HOT_LIST, CLAIRVOYANT)]
    ahead = dict(zip(others, differences((caught[own] - caught[others])[:, :-1], requests), strict=True))
    return [
        PolicyResult(name, shares[number][:-1], float(sizes[number]), shares[number][-1], ahead.get(number, []))
        for number, name in enumerate(names)
    ]


def marked_shares(result: PolicyResult) -> list[str]:
    """Return the percentages caught, each with a mark: `=` no difference from the hot list, `+` more than it."""
    marks = ["=" if one.low <= 0 <= one.high else "+" if one.high < 0 else "" for one in result.hot_list_ahead]
    return [
        f"{100 * share:.1f}{mark}"
        for share, mark in zip(result.caught, marks or [""] * len(result.caught), strict=True)
    ]


def lists_at_nights(
    counts: DayCounts, rows: Sequence[int], rooms: Sequence[int]
) -> Iterator[tuple[Night, dict[str, list[Ints]]]]:
    """Return the nights before the days of the rows, and what each policy lists then, for each of the rooms."""
    policies = new_policies()
    for row, night in zip(rows, nights_of(counts, rows), strict=True):
        past, lists = Past(counts, row, night), dict[str, list[Ints]]()
        for name, policy in policies.items():
            chosen = zip(policy(past, rooms), rooms, strict=True)
            lists[name] = [one[night.listable[one]][:room] for one, room in chosen]
        yield night, lists


def nights_of(counts: DayCounts, rows: Iterable[int]) -> Iterator[Night]:
    """Return the night before the day of each of the rows, which follow one another."""
    rows_of_days, learned, begin = list(counts.rows()), None, -1
    for row in rows:
        first = max(0, (history_begin(counts.day(row - 1)) - counts.first).days)
        if learned is None or first != begin:
            begin = first
            learned = learned_of(counts.columns, counts.day(first), rows_of_days[first:row])
        else:
            learned = learned.after(rows_of_days[row - 1])
        yield Night(learned, counts.day(row).toordinal())
