"""Data for the chart and the table of a backtest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usage_service.web.pages.presentation.words import plain

Found = Mapping[str, Any]
EXPECTED = "expected by the list"


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
    return {policy["policy"]: policy["caught"] for policy in found["policies"]} | {EXPECTED: found["expected"]}


def coverage_table(found: Found) -> list[list[object]]:
    """Return a table with a row for each policy and a column for each budget."""
    number = len(useful_budgets(found))
    return [
        [plain(policy["policy"]), *(f"{share:.1%}" for share in policy["caught"][:number])]
        for policy in found["policies"]
    ]
