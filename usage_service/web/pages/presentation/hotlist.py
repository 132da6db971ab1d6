"""What the page of the hot list draws of a backtest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usage_service.web.pages.presentation.words import plain

Found = Mapping[str, Any]
EXPECTED = "expected by the list"


def coverage_rows(found: Found) -> list[dict[str, object]]:
    """The share of requests that each way to choose catches, by how many probes are built a night."""
    return [
        {"budget": budget, "policy": plain(name), "share": share}
        for name, shares in _shares(found).items()
        for budget, share in zip(useful_budgets(found), shares, strict=False)
    ]


def useful_budgets(found: Found) -> list[int]:
    """Those up to the first from which on nothing more is caught, whatever the way to choose."""
    columns = list(zip(*_shares(found).values(), strict=True))
    last = next(place for place, column in enumerate(columns) if all(later == column for later in columns[place:]))
    budgets: list[int] = found["budgets"]
    return budgets[: last + 1]


def _shares(found: Found) -> dict[str, list[float]]:
    return {policy["policy"]: policy["caught"] for policy in found["policies"]} | {EXPECTED: found["expected"]}


def coverage_table(found: Found) -> list[list[object]]:
    """A row a way to choose, a column a budget."""
    number = len(useful_budgets(found))
    return [
        [plain(policy["policy"]), *(f"{share:.1%}" for share in policy["caught"][:number])]
        for policy in found["policies"]
    ]
