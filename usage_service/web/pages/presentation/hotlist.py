"""Data for the chart and the table of a backtest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from usage_service.hotlist.backtest.replaying import PolicyResult, marked_shares
from usage_service.web.pages.presentation.words import plain

Found = Mapping[str, Any]
EXPECTED = "expected by the list"
UNVIEWED = "of the list, never viewed before"


def coverage_rows(found: Found) -> list[dict[str, object]]:
    """Return the share of requests that each policy catches, by the number of probes built a night."""
    return [
        {"budget": budget, "policy": plain(name), "share": share}
        for name, shares in _shares(found).items()
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
