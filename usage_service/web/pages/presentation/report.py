"""Report of the overview and the hot list in one HTML file, with its style and charts in it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import vl_convert
from markupsafe import Markup

from usage_service.web.pages.presentation.assets import asset
from usage_service.web.pages.presentation.drawing import counted_chart
from usage_service.web.pages.presentation.hotlist import coverage_chart
from usage_service.web.pages.presentation.overview import over_time, release_marks
from usage_service.web.pages.presentation.rendering import rendered
from usage_service.windows import STEPS

WIDTH = 640
Answers = Mapping[str, Any]


def report_page(product: str, answers: Answers, made_at: datetime) -> str:
    """Return the report of a product as HTML, made from answers of the API by name.

    `series`, `summary` and `releases` are of /v1/timeseries, /v1/sessions/summary and /v1/releases/impact; `most`,
    `trending` and `least` of /v1/popularity; `hot` of /v1/hotlist, and `backtest`, or None, of its backtest.
    """
    begin = datetime.fromisoformat(answers["series"]["since"])
    lines = release_marks(answers["releases"], max((made_at - begin).days, 1))
    drawn = over_time(answers["series"], answers["summary"]["summary"]["roles_over_time"])
    step = STEPS[answers["series"]["interval"]]
    backtest = answers["backtest"]
    coverage = coverage_chart(backtest) if backtest else None
    return rendered(
        "report",
        product=product,
        made_at=made_at,
        style=Markup(asset("page.css").decode()),  # our own
        charts={title: _svg(counted_chart(rows, lines, step, made_at)) for title, rows in drawn.items()},
        coverage=_svg(coverage) if coverage else None,
        **answers,
    )


def _svg(specification: dict[str, Any]) -> Markup:
    """Return the chart drawn as SVG; Vega escapes its texts."""
    return Markup(vl_convert.vegalite_to_svg(specification | {"width": WIDTH, "background": "white"}))
