"""Hot list: the probes that the ETL should build, because they will be viewed next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import msgspec
import numpy as np

from usage_service.hotlist.history import Histories, History
from usage_service.hotlist.reasons import Reason, Reasons
from usage_service.hotlist.rules import RuleOfProbe, find_rules
from usage_service.hotlist.scoring import HISTORY_DAYS, expected_coverage, ranking, score_parts
from usage_service.probe_keys import Floats, Ints, ProbeKey
from usage_service.shared.postgres import Connection

DEFAULT_BUDGET = 100
MOST_PROBES = 10_000


class HotProbe(msgspec.Struct, frozen=True):
    """A probe worth building: the score that ranks it, the reasons it is made of, and when the ETL last built it."""

    product: str
    probe: str
    score: float
    reasons: list[Reason]
    built_at: datetime | None


class HotList(msgspec.Struct, frozen=True):
    """Probes to build for the day `for_day`, the best first, scored by the requests up to `last_day`.

    `expected_coverage` is the share of the next requests that are expected to be for these probes.
    """

    product: str | None
    for_day: date
    first_day: date
    last_day: date
    budget: int
    coverage: float | None
    expected_coverage: float
    probes: list[HotProbe]


@dataclass(frozen=True)
class Wanted:
    """Parameters of a list: a product or all, the day, at most `budget` probes, or fewer if they reach `coverage`."""

    product: str | None
    last_day: date
    for_day: date
    budget: int
    coverage: float | None


def wanted_list(
    product: str | None, budget: int | None, coverage: float | None, until: datetime | None, now: datetime
) -> Wanted:
    """Return the parameters of the list as of `until` (now): for the day that has most of the next 24 hours."""
    end = (until or now).astimezone(UTC)
    last = (end - timedelta(microseconds=1)).date()
    most = budget or (DEFAULT_BUDGET if coverage is None else MOST_PROBES)
    return Wanted(product, last, (end + timedelta(hours=12)).date(), most, coverage)


async def hot_list(connection: Connection, histories: Histories, wanted: Wanted) -> HotList:
    """Make the list from the connection's snapshot of the projections."""
    first = wanted.last_day - timedelta(days=HISTORY_DAYS - 1)
    history = await histories.read(connection, wanted.product, first, wanted.last_day)
    rules = {ProbeKey(rule.product, rule.probe): rule for rule in await find_rules(connection, wanted.product)}
    return make_list(history, rules, wanted)


def make_list(history: History, rules: dict[ProbeKey, RuleOfProbe], wanted: Wanted) -> HotList:
    """Make the list of a history under rules: pinned probes first, then by score, equals in the order of names."""
    counts = history.counts
    parts = score_parts(counts, wanted.for_day)
    score = parts.score
    order = _order(history, rules, score)
    covered = expected_coverage(counts, score, order)
    unknown = _pinned_unseen(rules, counts.probes)
    length = _length(covered, wanted, pinned=_pinned_in(history, rules, order), most=wanted.budget - len(unknown))
    reasons = Reasons(counts, parts, wanted.for_day, order[:length])
    scores: list[float] = score[order].tolist()
    listed = [
        _hot(history, rules, reasons, place, scores[place], column)
        for place, column in enumerate(order[:length].tolist())
    ]
    extra = [HotProbe(*key, 0.0, [_pin(rules[key])], history.built.get(key)) for key in unknown[: wanted.budget]]
    return HotList(
        wanted.product,
        wanted.for_day,
        counts.first,
        wanted.last_day,
        wanted.budget,
        wanted.coverage,
        round(float(covered[length - 1]), 4) if length else 0.0,
        extra + listed,
    )


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


def _length(covered: Floats, wanted: Wanted, pinned: int, most: int) -> int:
    length = len(covered)
    if wanted.coverage is not None:
        length = min(length, max(pinned, int(np.searchsorted(covered, wanted.coverage - 1e-9)) + 1))
    return max(0, min(length, most))


def _hot(
    history: History, rules: dict[ProbeKey, RuleOfProbe], reasons: Reasons, place: int, score: float, column: int
) -> HotProbe:
    key = history.counts.probes[column]
    why = ([_pin(rules[key])] if key in rules else []) + reasons.of(place)
    return HotProbe(*key, score, why, history.built.get(key))


def _pin(rule: RuleOfProbe) -> Reason:
    because = f": {rule.reason}" if rule.reason else ""
    return Reason("pinned", 0.0, f"pinned by {rule.source} on {rule.since:%Y-%m-%d}{because}")
