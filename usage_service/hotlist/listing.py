"""Hot list: the probes that the ETL should build, because they will be viewed next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial

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
from usage_service.hotlist.choices import (
    RuleChange,
    RuleChoice,
    UnviewedShare,
    rule_changes,
    rule_choices,
    unviewed_share,
)
from usage_service.hotlist.costs import Costs, arrays_of
from usage_service.hotlist.counts import Columns
from usage_service.hotlist.history import Histories, History
from usage_service.hotlist.learning import Night, history_begin
from usage_service.hotlist.reasons import SHOWN_DAYS, SHOWN_DECIMALS, Reason, Reasons
from usage_service.hotlist.rules import RuleOfProbe, find_rules
from usage_service.probe_keys import Floats, Ints, ProbeKey
from usage_service.shared.postgres import Connection

NO_PLACE = -1  # of what has no score, and is on the list because it is pinned


class HotProbe(msgspec.Struct, frozen=True):
    """A probe worth building: the score that ranks it, the reasons it is made of, and when the ETL last built it.

    The score is in views a day, counted as the rule of its place counts them. `worth` is what building it is worth,
    null in lists that were kept before it was told.
    """

    product: str
    probe: str
    score: float
    reasons: list[Reason]
    built_at: datetime | None
    worth: ProbeWorth | None = None


class HotList(msgspec.Struct, frozen=True):
    """Probes to build for the day `for_day`, the best first, scored by the requests up to `last_day`.

    `expected_coverage` is the share of the next requests that are expected to be for these probes. `choices` says which
    rule each part of the list follows and why, `changes` when that changed, `unviewed` what is expected of the probes
    that nobody has viewed yet.
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
    choices: list[RuleChoice] = []
    changes: list[RuleChange] = []
    unviewed: UnviewedShare | None = None


@dataclass(frozen=True)
class Wanted:
    """Parameters of a list: a product or all, the day, what it may cost, and the `coverage` after which it ends.

    The last day `is_over` when the list is made at its end.
    """

    product: str | None
    last_day: date
    is_over: bool
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
    return Wanted(product, last, last < end.date(), (end + timedelta(hours=12)).date(), most, coverage, prices)


async def read_for_list(connection: Connection, histories: Histories, wanted: Wanted) -> Callable[[], HotList]:
    """Return what makes the list of the connection's snapshot of the projections, or raises NothingKnownError.

    It is to be called in a thread when the snapshot is over: learning from a whole history takes seconds.
    """
    history = await histories.read(connection, wanted.product, history_begin(wanted.last_day), wanted.last_day)
    rules = {ProbeKey(rule.product, rule.probe): rule for rule in await find_rules(connection, wanted.product)}
    costs = await histories.costs.read(connection, wanted.product, wanted.last_day)
    return partial(make_list, history, rules, costs, wanted)


def make_list(history: History, rules: dict[ProbeKey, RuleOfProbe], costs: Costs, wanted: Wanted) -> HotList:
    """Make the list of a history under rules: pinned probes first, then as learned, equals in the order of names.

    Where costs decide, those that are worth most for what they cost come first.
    """
    night = Night(history.learned(wanted.is_over), wanted.for_day.toordinal())
    order, pinned = _order(night, rules)
    shares = night.by_column(night.place_shares)[order]
    worth = weigh(shares * night.requests, costs.of_columns(history.columns).of(order), wanted.prices)
    unknown = _pinned_unseen(rules, history.columns.probes)[: wanted.budget.probes]
    theirs = weigh(np.zeros(len(unknown)), arrays_of(costs.estimates(unknown)), wanted.prices)
    choice = _chosen(history.columns, order, shares, worth, wanted, pinned, theirs)
    listed = _listed(history, night, rules, order[choice.places], [worth.of(place) for place in choice.places.tolist()])
    extra = [_hot(history, rules, key, 0.0, [], theirs.of(number)) for number, key in enumerate(unknown)]
    unseen = night.requests * max(0.0, 1 - float(shares.sum()))
    return HotList(
        wanted.product,
        wanted.for_day,
        history.first,
        wanted.last_day,
        wanted.budget.asked,
        wanted.coverage,
        round(float(shares[choice.places].sum()), 4),
        extra + listed,
        account_of(worth, choice.places, theirs, unseen, wanted.prices, choice.ends),
        rule_choices(night),
        rule_changes(night),
        unviewed_share(night, order[choice.places]),
    )


def _chosen(
    columns: Columns, order: Ints, shares: Floats, worth: Worth, wanted: Wanted, pinned: int, theirs: Worth
) -> Choice:
    """Choose among columns in the order of their scores, the first `pinned` of which are listed anyhow.

    `theirs` is the worth of pinned probes that are listed before all of these.
    """
    if wanted.budget.by_cost:
        names = [columns.probes[column].probe for column in order.tolist()]
        choice = choose(worth, pinned, wanted.budget, float(theirs.bytes.sum()), names)
    else:
        choice = Choice(np.arange(len(order)), "no other probe has a score")
    most = max(0, wanted.budget.probes - len(theirs.bases))
    covered = np.cumsum(shares[choice.places])
    if wanted.coverage is not None:
        enough = max(pinned, int(np.searchsorted(covered, wanted.coverage - 1e-9)) + 1)
        if enough <= min(most, len(covered)):
            return Choice(choice.places[:enough], f"the coverage asked for is reached, {wanted.coverage:.1%}")
    if most < len(covered):
        return Choice(choice.places[:most], f"the budget is used up: {wanted.budget.probes:,} probes")
    return choice


def _order(night: Night, rules: dict[ProbeKey, RuleOfProbe]) -> tuple[Ints, int]:
    """Return the columns of the list under rules, and how many of them are pinned, which come first."""
    if not rules:
        return night.order, 0
    ruled = [(column, rules[key].rule == "pinned") for column, key in enumerate(night.columns.probes) if key in rules]
    pinned = np.array([column for column, is_pinned in ruled if is_pinned], dtype=np.int64)
    pinned = pinned[np.argsort(night.columns.ranks[pinned])]
    others = night.order[~np.isin(night.order, [column for column, _ in ruled])]
    return np.concatenate([pinned, others]), len(pinned)


def _listed(
    history: History, night: Night, rules: dict[ProbeKey, RuleOfProbe], order: Ints, worth: Sequence[ProbeWorth]
) -> list[HotProbe]:
    """Return the probes of the columns, each with its score and reasons."""
    places = np.full(len(history.columns), NO_PLACE)
    places[night.order] = np.arange(len(night.order))
    reasons = Reasons(night, history.counts(SHOWN_DAYS), order)
    scores = np.round(night.by_column(night.place_scores)[order], SHOWN_DECIMALS).tolist()
    listed = []
    for number, (column, place) in enumerate(zip(order.tolist(), places[order].tolist(), strict=True)):
        why = [] if place == NO_PLACE else reasons.of(number, night.rule_at(place))
        listed.append(_hot(history, rules, history.columns.probes[column], scores[number], why, worth[number]))
    return listed


def _pinned_unseen(rules: dict[ProbeKey, RuleOfProbe], probes: Sequence[ProbeKey]) -> list[ProbeKey]:
    """Return the pinned probes that were never requested and are not in the catalogue."""
    pinned = {key for key, rule in rules.items() if rule.rule == "pinned"}
    return sorted(pinned.difference(probes)) if pinned else []


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
