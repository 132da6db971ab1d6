"""Chart and table of a backtest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from usage_service.hotlist.backtest.policies import CLAIRVOYANT, HOT_LIST
from usage_service.hotlist.backtest.replaying import PolicyResult, marked_shares
from usage_service.web.pages.presentation.charts import chart
from usage_service.web.pages.presentation.words import plain

Found = Mapping[str, Any]
EXPECTED = "expected by the list"
UNVIEWED = "of the list, never viewed before"


def coverage_chart(found: Found, chosen: Sequence[int] = ()) -> dict[str, Any]:
    """Return the chart of the share of requests that policies catch, by the number of probes built a night.

    The hot list, what it expected, the best of the others and the best possible have a colour each; those of `others`
    are grey. `chosen` are budgets to mark.
    """
    named = {plain(name): shares for name, shares in _shares(found).items()}
    compared = [
        plain(policy["policy"]) for policy in found["policies"] if policy["policy"] not in (HOT_LIST, CLAIRVOYANT)
    ]
    best = max(compared, key=lambda name: sum(named[name]))
    told = {name: name for name in (plain(HOT_LIST), EXPECTED, UNVIEWED)}
    told |= {best: f"best of the others: {best}", plain(CLAIRVOYANT): plain(CLAIRVOYANT)}
    return chart(
        "coverage",
        rows=_points(found, {words: named[name] for name, words in told.items()}),
        others=_points(found, {name: named[name] for name in compared if name != best}),
        chosen=[{"budget": budget} for budget in chosen],
    )


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
