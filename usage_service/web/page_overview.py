"""GET /: how much the app is used, which probes are looked at, and how much of the catalogue ever was."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from aiohttp import web

from usage_service.catalogue import looked_at
from usage_service.page.overview import over_time, release_marks, values_by_probe
from usage_service.popularity import Order, Ranking
from usage_service.projections import Projection
from usage_service.shared.postgres import Connection
from usage_service.timeseries import bucket_span
from usage_service.web.answering import Question
from usage_service.web.answers import Body, as_json
from usage_service.web.page import Page, begin
from usage_service.web.page_filters import Filters, ViewParameters, view_parameters
from usage_service.web.page_frame import Panel, ask, ask_all, how_fresh
from usage_service.web.popularity import VIEW_COUNTS, PopularityQuestion
from usage_service.web.releases import ImpactQuestion
from usage_service.web.session_summaries import SummaryQuestion
from usage_service.web.timeseries import TimeSeriesQuestion

SHOWN = 10
IMPACT_DAYS = 7
ORDERS: tuple[Order, ...] = ("most", "trending", "least")


@dataclass(frozen=True)
class LookedAtQuestion(Question):
    """How much of a product's catalogue was ever looked at."""

    product: str

    @property
    def reads(self) -> tuple[Projection, ...]:
        """What there is, and what was viewed."""
        return ("catalogue", "popularity")

    async def answer(self, connection: Connection) -> Body:
        """Both numbers."""
        return as_json(await looked_at(connection, self.product))


async def get_overview(request: web.Request) -> web.Response:
    """The page."""
    page = await begin(request, view_parameters(request, ViewParameters))
    if not page.filters.product:
        return await page.shown("empty", {}, fresh=await how_fresh(request))
    questions: dict[str, Question] = {
        "series": series_question(page.filters),
        "summary": SummaryQuestion((page.filters.span,), page.filters.product, "exclude", page.filters.interval, SHOWN),
        "releases": releases_question(page.filters),
        "catalogue": LookedAtQuestion(page.filters.product),
    }
    questions |= {order: _ranked(request, page.filters, order) for order in ORDERS}
    panels = await ask_all(request, **questions)
    sparks, fresh = await asyncio.gather(_sparks(page, [panels[order] for order in ORDERS]), how_fresh(request))
    drawn = {
        "over_time": over_time(panels["series"].data, panels["summary"].data),
        "marks": release_marks(panels["releases"].data),
        "sparks": sparks,
    }
    return await page.shown("overview", panels, fresh=fresh, **drawn)


def series_question(filters: Filters, *probes: str) -> TimeSeriesQuestion:
    """Views and visitors of probes, or of all together, over the window."""
    span = bucket_span(filters.interval, filters.since, None, filters.now)
    return TimeSeriesQuestion(span, filters.interval, filters.product, probes, filters.channel, bots=False)


def releases_question(filters: Filters) -> ImpactQuestion:
    """The releases of the window."""
    today = filters.days.last
    return ImpactQuestion(filters.span, filters.product, filters.channel, IMPACT_DAYS, today, SHOWN)


def _ranked(request: web.Request, filters: Filters, order: Order) -> PopularityQuestion:
    ranking = Ranking(filters.days, filters.product, filters.channel, False, order)
    return PopularityQuestion(ranking, SHOWN, None, request.app[VIEW_COUNTS])


async def _sparks(page: Page, rankings: list[Panel]) -> dict[str, list[int]]:
    """The views over time of all probes that are listed, ten in a question."""
    names = {probe["probe"] for ranking in rankings if ranking.data for probe in ranking.data["probes"]}
    listed = sorted(names)
    tens = [listed[place : place + SHOWN] for place in range(0, len(listed), SHOWN)]
    panels = await asyncio.gather(*(ask(page.request, series_question(page.filters, *ten)) for ten in tens))
    answers = [panel.data["series"] for panel in panels if panel.data]
    return {name: values for series in answers for name, values in values_by_probe(series).items()}
