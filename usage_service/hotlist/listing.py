"""Hot list: the probes that the ETL should build, because they will be viewed next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import msgspec
import numpy as np

from usage_service.hotlist.budgets import (
    DEFAULT_BUDGET,
    MOST_PROBES,
    Account,
    Budget,
    Choice,
    Prices,
    ProbeWorth,
    Worth,
    account_of,
    choose,
    read_budget,
    weigh,
)
from usage_service.hotlist.costs import Costs
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.history import Histories, History
from usage_service.hotlist.reasons import Reason, Reasons
from usage_service.hotlist.rules import RuleOfProbe, find_rules
from usage_service.hotlist.scoring import HISTORY_DAYS, expected_coverage, ranking, score_parts
from usage_service.probe_keys import Floats, Ints, ProbeKey
from usage_service.shared.postgres import Connection

ACCOUNTED_DAYS = 28  # the days whose mean number of requests the next one is expected to have


class HotProbe(msgspec.Struct, frozen=True):
    """A probe worth building: the score that ranks it, the reasons it is made of, and when the ETL last built it.

    `worth` is what building it is worth, null in lists that were kept before it was told.
    """

    product: str
    probe: str
    score: float
    reasons: list[Reason]
    built_at: datetime | None
    worth: ProbeWorth | None = None


class HotList(msgspec.Struct, frozen=True):
    """Probes to build for the day `for_day`, the best first, scored by the requests up to `last_day`.

    `expected_coverage` is the share of the next requests that are expected to be for these probes.
    """

    product: str | None
    for_day: date
    first_day: date
    last_day: date
    budget: int | str
    coverage: float | None
    expected_coverage: float
    probes: list[HotProbe]
    account: Account | None = None


@dataclass(frozen=True)
class Wanted:
    """Parameters of a list: a product or all, the day, what it may cost, and the `coverage` after which it ends."""

    product: str | None
    last_day: date
    for_day: date
    budget: Budget
    coverage: float | None
    prices: Prices


def wanted_list(
    product: str | None,
    budget: int | str | None,
    coverage: float | None,
    until: datetime | None,
    now: datetime,
    prices: Prices,
) -> Wanted:
    """Return the parameters of the list as of `until` (now): for the day that has most of the next 24 hours."""
    end = (until or now).astimezone(UTC)
    last = (end - timedelta(microseconds=1)).date()
    most = read_budget(budget or (DEFAULT_BUDGET if coverage is None else MOST_PROBES), prices)
    return Wanted(product, last, (end + timedelta(hours=12)).date(), most, coverage, prices)


async def hot_list(connection: Connection, histories: Histories, wanted: Wanted) -> HotList:
    """Make the list from the connection's snapshot of the projections; raise NothingKnownError."""
    first = wanted.last_day - timedelta(days=HISTORY_DAYS - 1)
    history = await histories.read(connection, wanted.product, first, wanted.last_day)
    rules = {ProbeKey(rule.product, rule.probe): rule for rule in await find_rules(connection, wanted.product)}
    return make_list(history, rules, await histories.costs.read(connection, wanted.product, wanted.last_day), wanted)


def make_list(history: History, rules: dict[ProbeKey, RuleOfProbe], costs: Costs, wanted: Wanted) -> HotList:
    """Make the list of a history under rules: pinned probes first, then by score, equals in the order of names.

    Where costs decide, those that are worth most for what they cost come first.
    """
    counts = history.counts
    parts = score_parts(counts, wanted.for_day)
    score = parts.score
    order = _order(history, rules, score)
    shares = np.diff(expected_coverage(counts, score, order), prepend=0.0)
    keys = [counts.probes[column] for column in order.tolist()]
    daily = _daily_requests(counts)
    worth = weigh(shares * daily, costs.estimates(keys), wanted.prices)
    unknown = _pinned_unseen(rules, counts.probes)[: wanted.budget.probes]
    theirs = weigh(np.zeros(len(unknown)), costs.estimates(unknown), wanted.prices)
    choice = _chosen(keys, shares, worth, wanted, _pinned_in(history, rules, order), theirs)
    reasons = Reasons(counts, parts, wanted.for_day, order[choice.places])
    scores: list[float] = score[order[choice.places]].tolist()
    listed = [
        _hot(history, rules, keys[place], scores[number], reasons.of(number), worth.of(place))
        for number, place in enumerate(choice.places.tolist())
    ]
    extra = [_hot(history, rules, key, 0.0, [], theirs.of(number)) for number, key in enumerate(unknown)]
    unseen = daily * max(0.0, 1 - float(shares.sum()))
    return HotList(
        wanted.product,
        wanted.for_day,
        counts.first,
        wanted.last_day,
        wanted.budget.asked,
        wanted.coverage,
        round(float(shares[choice.places].sum()), 4),
        extra + listed,
        account_of(worth, choice.places, theirs, unseen, wanted.prices, choice.ends),
    )


def _daily_requests(counts: DayCounts) -> float:
    """Return the mean number of requests a day, lately."""
    return float(counts.views[-ACCOUNTED_DAYS:].sum(axis=1).mean()) if counts.days else 0.0


def _chosen(
    keys: Sequence[ProbeKey], shares: Floats, worth: Worth, wanted: Wanted, pinned: int, theirs: Worth
) -> Choice:
    """Choose among probes in the order of their scores, the first `pinned` of which are listed anyhow.

    `theirs` is the worth of pinned probes that are listed before all of these.
    """
    if wanted.budget.by_cost:
        names = [key.probe for key in keys]
        choice = choose(worth, pinned, wanted.budget, float(theirs.bytes.sum()), names)
    else:
        choice = Choice(np.arange(len(keys)), "no other probe has a score")
    most = max(0, wanted.budget.probes - len(theirs.bases))
    covered = np.cumsum(shares[choice.places])
    if wanted.coverage is not None:
        enough = max(pinned, int(np.searchsorted(covered, wanted.coverage - 1e-9)) + 1)
        if enough <= min(most, len(covered)):
            return Choice(choice.places[:enough], f"the coverage asked for is reached, {wanted.coverage:.1%}")
    if most < len(covered):
        return Choice(choice.places[:most], f"the budget is used up: {wanted.budget.probes:,} probes")
    return choice


def _order(history: History, rules: dict[ProbeKey, RuleOfProbe], score: Floats) -> Ints:
    """Return the columns that may be listed, best first."""
    chosen = history.listable & (score > 0)
    pinned = np.zeros(len(chosen), dtype=np.bool_)
    for column, key in enumerate(history.counts.probes) if rules else ():
        if key in rules:
            chosen[column] = pinned[column] = rules[key].rule == "pinned"
    order = ranking(np.where(pinned, np.inf, score), history.counts.ranks)
    return order[chosen[order]]


def _pinned_unseen(rules: dict[ProbeKey, RuleOfProbe], probes: Sequence[ProbeKey]) -> list[ProbeKey]:
    """Return the pinned probes that were never requested and are not in the catalogue."""
    pinned = {key for key, rule in rules.items() if rule.rule == "pinned"}
    return sorted(pinned.difference(probes)) if pinned else []


def _pinned_in(history: History, rules: dict[ProbeKey, RuleOfProbe], order: Ints) -> int:
    probes = history.counts.probes
    return sum(probes[column] in rules for column in order) if rules else 0


def _hot(
    history: History,
    rules: dict[ProbeKey, RuleOfProbe],
    key: ProbeKey,
    score: float,
    reasons: list[Reason],
    worth: ProbeWorth,
) -> HotProbe:
    why = ([_pin(rules[key])] if key in rules else []) + reasons
    return HotProbe(*key, score, why, history.built.get(key), worth)


def _pin(rule: RuleOfProbe) -> Reason:
    because = f": {rule.reason}" if rule.reason else ""
    return Reason("pinned", 0.0, f"pinned by {rule.source} on {rule.since:%Y-%m-%d}{because}")
