"""No chart draws two series in one colour: a page has eight colours, whatever there is to draw."""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import Any

from usage_service.hotlist.backtest.policies import new_policies
from usage_service.hotlist.backtest.replaying import Backtest, PolicyResult
from usage_service.web.answers import as_json
from usage_service.web.pages.presentation.charts import SPECIFICATIONS
from usage_service.web.pages.presentation.distribution import MOST_DRAWN, OTHERS, largest_shares
from usage_service.web.pages.presentation.hotlist import coverage_chart

SCRIPT = Path(SPECIFICATIONS.parent, "static", "charts.js").read_text("utf-8")
COLOURS = len(re.findall(r'"--\w+"', next(line for line in SCRIPT.splitlines() if line.startswith("const COLOURS"))))


def test_a_backtest_of_all_policies_has_a_colour_for_each_line_of_its_legend() -> None:
    results = [PolicyResult(name, [0.2, place / 20], 2.0, 0.5, []) for place, name in enumerate(new_policies())]
    found = Backtest(date(2026, 1, 1), date(2026, 1, 2), 2, 9, [1, 2], results, [0.1, 0.2], [0.1, 0.2], [])
    chart = coverage_chart(json.loads(as_json(found).data), [2])
    coloured = {row["policy"] for row in chart["datasets"]["rows"]}
    grey = {row["policy"] for row in chart["datasets"]["others"]}
    assert len(coloured) == 5
    assert "best of the others: viewed in 90 days" in coloured
    assert len(grey) == len(results) - 3
    [dashes] = [layer["encoding"]["strokeDash"] for layer in chart["layer"] if "strokeDash" in layer["encoding"]]
    assert len(dashes["scale"]["range"]) == len(coloured) <= COLOURS


def test_of_many_categories_the_smallest_are_added_up() -> None:
    shares = [
        {"start": start, "series": f"category {number}", "value": number / 4_950}
        for start in ("2026-11-20", "2026-11-21")
        for number in range(100)
    ]
    drawn = largest_shares(shares)
    assert len({row["series"] for row in drawn}) == MOST_DRAWN == COLOURS
    for start in ("2026-11-20", "2026-11-21"):
        of_build: dict[Any, Any] = {row["series"]: row["value"] for row in drawn if row["start"] == start}
        assert abs(sum(of_build.values()) - 1) < 1e-9
        assert of_build[OTHERS] == sum(number / 4_950 for number in range(93))
    assert largest_shares(shares[:8]) == shares[:8]
