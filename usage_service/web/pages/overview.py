"""GET /: how much the app is used, which probes are viewed, and how much of the catalogue ever was."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from usage_service.probe_keys import ProbeKey
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import count_viewed
from usage_service.stats.popularity import Order, Ranking, views_by_probe
from usage_service.stats.session_summaries import count_over_time
from usage_service.stats.timeseries import bucket_range, viewed_days
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.answering import Question
from usage_service.web.answers import Body, as_json
from usage_service.web.api.popularity import VIEW_COUNTS, PopularityQuestion
from usage_service.web.api.releases import ImpactQuestion
from usage_service.web.api.session_summaries import SummaryQuestion
from usage_service.web.api.timeseries import TimeSeriesQuestion
from usage_service.web.pages.filters import Filters, ViewParameters, view_parameters
from usage_service.web.pages.frame import Page, begin
from usage_service.web.pages.panels import Panel, ask, ask_all, how_fresh
from usage_service.web.pages.presentation.overview import before_over_time, changes, over_time, release_marks
from usage_service.web.pages.presentation.recorded import Recorded
from usage_service.windows import Days, Interval, TimeRange

SHOWN = 10
IMPACT_DAYS = 7
ORDERS: tuple[Order, ...] = ("most", "trending", "least")


@dataclass(frozen=True)
class EverViewedQuestion(Question):
    """Number of probes in a product's catalogue, and of those that were ever viewed."""

    product: str

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue and of views."""
        return ("catalogue", "popularity")

    async def answer(self, connection: Connection) -> Body:
        """Return both numbers."""
        return as_json(await count_viewed(connection, self.product))


@dataclass(frozen=True)
class ViewedDaysQuestion(Question):
    """First and last day on which people viewed a product, or a probe of it."""

    product: str
    channel: str | None
    probe: str = ""

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of views by hour."""
        return ("timeseries",)

    async def answer(self, connection: Connection) -> Body:
        """Return both days, or null."""
        return as_json(await viewed_days(connection, self.product, self.probe, self.channel))


@dataclass(frozen=True)
class SessionCountsQuestion(Question):
    """Number of sessions of people that began in each bucket of a time range."""

    time_range: TimeRange
    product: str
    interval: Interval

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of sessions."""
        return ("sessions",)

    @property
    def address(self) -> str:
        """Return where the API has these numbers, among others."""
        return SummaryQuestion((self.time_range,), self.product, "exclude", self.interval, 1).address

    async def answer(self, connection: Connection) -> Body:
        """Return the buckets that have sessions."""
        return as_json(await count_over_time(connection, self.time_range, self.product, "exclude", self.interval))


@dataclass(frozen=True)
class SparklinesQuestion(Question):
    """Views of some probes over time, for sparklines."""

    buckets: tuple[Days, ...]
    product: str
    channel: str | None
    probes: tuple[str, ...]
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of views."""
        return ("popularity",)

    async def answer(self, connection: Connection) -> Body:
        """Return the views of each probe in each bucket."""
        keys = [ProbeKey(self.product, probe) for probe in self.probes]
        views = await views_by_probe(connection, self._counts, self.buckets, keys, self.channel)
        return as_json(dict(zip(self.probes, views, strict=True)))


async def get_overview(request: web.Request) -> web.Response:
    """Answer with the overview."""
    page = await begin(request, view_parameters(request, ViewParameters))
    filters = page.filters
    if not filters.product:
        return await page.shown("empty", {}, fresh=await how_fresh(request))
    questions: dict[str, Question] = {
        **_counted(filters),
        "releases": releases_question(filters),
        "catalogue": EverViewedQuestion(filters.product),
        "viewed": ViewedDaysQuestion(filters.product, filters.channel),
        **{order: _ranked(request, filters, order) for order in ORDERS},
        **{f"{what}_before": question for what, question in _counted(filters.compared).items()},
    }
    panels = await ask_all(request, **questions)
    sparks, fresh = await asyncio.gather(ask(request, _sparklines(page, panels)), how_fresh(request))
    return await page.shown("overview", panels, fresh=fresh, sparks=sparks, **_drawn(filters, panels))


def _drawn(filters: Filters, panels: Mapping[str, Panel]) -> dict[str, object]:
    """Return what the template draws of the panels."""
    series, sessions = panels["series"].data, panels["sessions"].data
    others = [panels[f"{what}_before"].data if filters.compared else None for what in ("series", "sessions")]
    recorded = Recorded.of(panels["viewed"].data, filters.days)
    return {
        "over_time": over_time(series, sessions),
        "before_over_time": before_over_time(filters.comparison, *others),
        "changes": changes(filters.comparison, (series, sessions), others),
        "release_marks": release_marks(panels["releases"].data, filters.length),
        "recorded": recorded,
    }


def _counted(filters: Filters | None) -> dict[str, Question]:
    """Return the questions of views and of sessions over time."""
    if filters is None:
        return {}
    sessions = SessionCountsQuestion(filters.time_range, filters.product, filters.interval)
    return {"series": series_question(filters), "sessions": sessions}


def series_question(filters: Filters, *probes: str) -> TimeSeriesQuestion:
    """Return the question of views and visitors of probes, or of all probes together, in the window."""
    time_range = bucket_range(filters.interval, filters.since, filters.until, filters.now)
    return TimeSeriesQuestion(time_range, filters.interval, filters.product, probes, filters.channel, bots=False)


def releases_question(filters: Filters) -> ImpactQuestion:
    """Return the question of the window's releases."""
    asked = filters.product, filters.channel, IMPACT_DAYS, filters.today, SHOWN
    return ImpactQuestion(filters.marks, filters.time_range, *asked)


def _ranked(request: web.Request, filters: Filters, order: Order) -> PopularityQuestion:
    ranking = Ranking(filters.days, filters.product, filters.channel, False, order)
    return PopularityQuestion(ranking, SHOWN, None, request.app[VIEW_COUNTS])


def _sparklines(page: Page, panels: Mapping[str, Panel]) -> SparklinesQuestion:
    """Return the question of views over time of all probes that the panels list; last in the days compared with."""
    lists = [panels[order].data for order in ORDERS]
    names = {probe["probe"] for listed in lists if listed for probe in listed["probes"]}
    filters, counts = page.filters, page.request.app[VIEW_COUNTS]
    buckets = _spark_buckets(filters) + ((filters.compared.days,) if filters.compared else ())
    return SparklinesQuestion(buckets, filters.product, filters.channel, tuple(sorted(names)), counts)


def _spark_buckets(filters: Filters) -> tuple[Days, ...]:
    """Return the buckets of sparklines: the days of the window, at least 7, or its weeks when charts are by week."""
    first, last = filters.days
    first, step = min(first, last - timedelta(days=6)), 1
    if filters.interval == "week":
        first, step = first - timedelta(days=first.weekday()), 7
    starts = (first + timedelta(days=number) for number in range(0, (last - first).days + 1, step))
    return tuple(Days(start, min(start + timedelta(days=step - 1), last)) for start in starts)
