"""What the page of the hot list draws of a backtest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usage_service.page.words import plain

Found = Mapping[str, Any]
EXPECTED = "expected by the list"


def coverage_rows(found: Found) -> list[dict[str, object]]:
    """The share of requests that each way to choose catches, by how many probes are built a night."""
    policies = {policy["policy"]: policy["caught"] for policy in found["policies"]} | {EXPECTED: found["expected"]}
    return [
        {"budget": budget, "policy": plain(name), "share": share}
        for name, shares in policies.items()
        for budget, share in zip(found["budgets"], shares, strict=True)
    ]


def coverage_table(found: Found) -> list[list[object]]:
    """A row a way to choose, a column a budget."""
    return [[plain(policy["policy"]), *(f"{share:.1%}" for share in policy["caught"])] for policy in found["policies"]]
