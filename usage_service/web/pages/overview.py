"""GET /: how much the app is used, which probes are looked at, and how much of the catalogue ever was."""

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
from usage_service.stats.timeseries import bucket_range
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.answering import Question
from usage_service.web.answers import Body, as_json
from usage_service.web.api.popularity import VIEW_COUNTS, PopularityQuestion
from usage_service.web.api.releases import ImpactQuestion
from usage_service.web.api.timeseries import TimeSeriesQuestion
from usage_service.web.pages.filters import Filters, ViewParameters, view_parameters
from usage_service.web.pages.frame import Page, begin
from usage_service.web.pages.panels import Panel, ask, ask_all, how_fresh
from usage_service.web.pages.presentation.overview import over_time, release_marks
from usage_service.windows import Days, Interval, TimeRange

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
        return as_json(await count_viewed(connection, self.product))


@dataclass(frozen=True)
class SessionCountsQuestion(Question):
    """How many sessions of people began in each bucket of a time range."""

    time_range: TimeRange
    product: str
    interval: Interval

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Nothing but sessions."""
        return ("sessions",)

    async def answer(self, connection: Connection) -> Body:
        """The buckets that have any."""
        return as_json(await count_over_time(connection, self.time_range, self.product, "exclude", self.interval))


@dataclass(frozen=True)
class SparksQuestion(Question):
    """The views of some probes over time, as small as a line of text."""

    buckets: tuple[Days, ...]
    product: str
    channel: str | None
    probes: tuple[str, ...]
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """What was viewed."""
        return ("popularity",)

    async def answer(self, connection: Connection) -> Body:
        """The views of each, bucket by bucket."""
        keys = [ProbeKey(self.product, probe) for probe in self.probes]
        views = await views_by_probe(connection, self._counts, self.buckets, keys, self.channel)
        return as_json(dict(zip(self.probes, views, strict=True)))


async def get_overview(request: web.Request) -> web.Response:
    """The page."""
    page = await begin(request, view_parameters(request, ViewParameters))
    if not page.filters.product:
        return await page.shown("empty", {}, fresh=await how_fresh(request))
    questions: dict[str, Question] = {
        "series": series_question(page.filters),
        "sessions": SessionCountsQuestion(page.filters.time_range, page.filters.product, page.filters.interval),
        "releases": releases_question(page.filters),
        "catalogue": LookedAtQuestion(page.filters.product),
    }
    questions |= {order: _ranked(request, page.filters, order) for order in ORDERS}
    panels = await ask_all(request, **questions)
    sparks, fresh = await asyncio.gather(ask(request, _sparks(page, panels)), how_fresh(request))
    drawn = {
        "over_time": over_time(panels["series"].data, panels["sessions"].data),
        "marks": release_marks(panels["releases"].data),
        "sparks": sparks,
    }
    return await page.shown("overview", panels, fresh=fresh, **drawn)


def series_question(filters: Filters, *probes: str) -> TimeSeriesQuestion:
    """Views and visitors of probes, or of all together, over the window."""
    time_range = bucket_range(filters.interval, filters.since, None, filters.now)
    return TimeSeriesQuestion(time_range, filters.interval, filters.product, probes, filters.channel, bots=False)


def releases_question(filters: Filters) -> ImpactQuestion:
    """The releases of the window."""
    today = filters.days.last
    return ImpactQuestion(filters.time_range, filters.product, filters.channel, IMPACT_DAYS, today, SHOWN)


def _ranked(request: web.Request, filters: Filters, order: Order) -> PopularityQuestion:
    ranking = Ranking(filters.days, filters.product, filters.channel, False, order)
    return PopularityQuestion(ranking, SHOWN, None, request.app[VIEW_COUNTS])


def _sparks(page: Page, panels: Mapping[str, Panel]) -> SparksQuestion:
    """Of all probes that are listed."""
    lists = [panels[order].data for order in ORDERS]
    names = {probe["probe"] for listed in lists if listed for probe in listed["probes"]}
    filters, counts = page.filters, page.request.app[VIEW_COUNTS]
    return SparksQuestion(_spark_buckets(filters), filters.product, filters.channel, tuple(sorted(names)), counts)


def _spark_buckets(filters: Filters) -> tuple[Days, ...]:
    """The days of the window, at least a week of them; the weeks that it touches where that is how it is drawn."""
    first, last = filters.days
    first, step = min(first, last - timedelta(days=6)), 1
    if filters.interval == "week":
        first, step = first - timedelta(days=first.weekday()), 7
    starts = (first + timedelta(days=number) for number in range(0, (last - first).days + 1, step))
    return tuple(Days(start, min(start + timedelta(days=step - 1), last)) for start in starts)
