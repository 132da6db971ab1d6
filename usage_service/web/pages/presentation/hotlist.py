"""Chart and table of a backtest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from usage_service.hotlist.backtest.policies import CLAIRVOYANT, HOT_LIST
from usage_service.hotlist.backtest.replaying import PolicyResult, marked_shares
from usage_service.web.pages.presentation.charts import Tip, chart, measured
from usage_service.web.pages.presentation.units import SHARE
from usage_service.web.pages.presentation.units import measured as in_words
from usage_service.web.pages.presentation.words import plain

Found = Mapping[str, Any]
EXPECTED = "expected by the list"
LABEL_SHARE = 0.042  # of the chart's height: a line of text
UNVIEWED = "of the list, never viewed before"


def coverage_chart(found: Found, chosen: Sequence[int] = ()) -> dict[str, Any]:
    """Return the chart of the share of requests that policies catch, by the number of probes built a night.

    The hot list is bold. It, what it expected, the best of the others and the best possible have a colour each; those
    of `others` are grey. Each has its name at its end. `chosen` are budgets to mark.
    """
    named = {plain(name): shares for name, shares in _shares(found).items()}
    compared = [
        plain(policy["policy"]) for policy in found["policies"] if policy["policy"] not in (HOT_LIST, CLAIRVOYANT)
    ]
    best = max(compared, key=lambda name: sum(named[name]))
    told = {name: name for name in (plain(HOT_LIST), EXPECTED, UNVIEWED)}
    told |= {best: f"best of the others: {best}", plain(CLAIRVOYANT): plain(CLAIRVOYANT)}
    own = {words: named[name] for name, words in told.items()}
    others = {name: named[name] for name in compared if name != best}
    drawn = chart(
        "coverage",
        _tips(found, own | others),
        rows=_points(found, own),
        others=_points(found, others),
        labels=_labels(found, own, others),
        chosen=[{"budget": budget} for budget in chosen],
    )
    return measured(measured(drawn, "x", None, useful_budgets(found)), "y", SHARE)


def _tips(found: Found, lines: Mapping[str, Sequence[float]]) -> list[Tip]:
    """Return what the chart says at each budget: the policies, those that catch most first."""
    tips = []
    for place, budget in enumerate(useful_budgets(found)):
        caught = sorted(((shares[place], name) for name, shares in lines.items()), reverse=True)
        tips.append(
            Tip(budget, f"{budget:,} probes a night", [(name, in_words(share, SHARE)) for share, name in caught])
        )
    return tips


def _labels(
    found: Found, own: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]
) -> list[dict[str, object]]:
    """Return the name of each line at its end, moved so that no two overprint each other."""
    last = len(useful_budgets(found)) - 1
    order = {name: number for number, name in enumerate(own)}
    lines = (*others.items(), *reversed(list(own.items())))  # of lines that end together the own ones are on top
    ends = sorted(((shares[last], name) for name, shares in lines), key=lambda end: end[0])
    places: list[float] = []
    for share, _ in ends:
        places.append(max(share, places[-1] + LABEL_SHARE) if places else share)
    top = 1.0
    for number in reversed(range(len(places))):  # down again from the top
        places[number] = min(places[number], top)
        top = places[number] - LABEL_SHARE
    return [
        {"policy": name, "place": place, "order": order.get(name)}
        for (_, name), place in zip(ends, places, strict=True)
    ]


def _points(found: Found, lines: Mapping[str, Sequence[float]]) -> list[dict[str, object]]:
    """Return the points of the lines; the first is drawn last, above the others."""
    return [
        {"budget": budget, "policy": name, "share": share, "order": order}
        for order, (name, shares) in reversed(list(enumerate(lines.items())))
        for budget, share in zip(useful_budgets(found), shares, strict=False)
    ]


def useful_budgets(found: Found) -> list[int]:
    """Return the budgets up to the first from which on no policy catches more."""
    columns = list(zip(*_shares(found).values(), strict=True))
    last = next(place for place, column in enumerate(columns) if all(later == column for later in columns[place:]))
    budgets: list[int] = found["budgets"]
    return budgets[: last + 1]


def _shares(found: Found) -> dict[str, list[float]]:
    caught = {policy["policy"]: policy["caught"] for policy in found["policies"]}
    return caught | {EXPECTED: found["expected"], UNVIEWED: found["unviewed"]}


def coverage_table(found: Found) -> list[list[str]]:
    """Return a table of percentages, a row for each policy, marked where there is no difference from the list."""
    number = len(useful_budgets(found))
    results = [msgspec.convert(policy, PolicyResult) for policy in found["policies"]]
    rows = [[plain(result.policy), *marked_shares(result)[:number]] for result in results]
    more = {EXPECTED: found["expected"], UNVIEWED: found["unviewed"]}
    return rows + [[name, *(f"{100 * share:.1f}" for share in shares[:number])] for name, shares in more.items()]
