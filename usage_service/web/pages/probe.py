"""GET /probes/{product}/{probe}: views of a probe, and its aggregates."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import msgspec
from aiohttp import web

from usage_service.builds.listing import BuildFilter, builder_state, queue_place, read_page
from usage_service.builds.requests import Build
from usage_service.events import Channel
from usage_service.problems import Problem
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import find_entry, viewed_together
from usage_service.web.answering import ListingQuestion
from usage_service.web.answers import Body, as_json
from usage_service.web.api.probes import ProbePath
from usage_service.web.keys import service_of
from usage_service.web.pages.filters import CHANNELS, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.overview import ViewedDaysQuestion, releases_question, series_question
from usage_service.web.pages.panels import HEADERS, ask, ask_all, how_fresh, html_answer
from usage_service.web.pages.presentation.builds import Waiting
from usage_service.web.pages.presentation.overview import release_marks, views_over_time, visitors_over_time
from usage_service.web.pages.presentation.recorded import Recorded
from usage_service.web.pages.presentation.words import has_expired, path_segment
from usage_service.web.pages.rows import NO_ROWS, FacetsQuestion, ProbeView, rows_shown
from usage_service.web.parameters import parameters_from, query_parameters

MOST_TOGETHER = 10


@dataclass(frozen=True)
class EntryQuestion(ListingQuestion):
    """Entry of a probe in the catalogue."""

    product: str
    probe: str

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of the catalogue."""
        return ("catalogue",)

    async def answer(self, connection: Connection) -> Body:
        """Return the entry, or null."""
        return as_json(await find_entry(connection, self.product, self.probe))


@dataclass(frozen=True)
class TogetherQuestion(ListingQuestion):
    """Other probes that were viewed in the same sessions."""

    since: datetime
    until: datetime
    product: str
    probe: str

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of views by hour, of sessions and of their events."""
        return ("journeys", "sessions", "timeseries")

    async def answer(self, connection: Connection) -> Body:
        """Return the other probes, the most frequent first."""
        asked = self.since, self.until, self.product, self.probe, MOST_TOGETHER
        return as_json(await viewed_together(connection, *asked))


async def get_probe_page(request: web.Request) -> web.Response:
    """Answer with the page of a probe; raise a Problem (404) for one that was never registered or viewed.

    With another product in the query, lead to the probe of that name there.
    """
    path, asked = parameters_from(dict(request.match_info), ProbePath), view_parameters(request, ProbeView)
    if asked.product not in (None, path.product):
        return await _led_to_product(request, path, asked)
    page = await begin(request, asked, path.product)
    filters, channel = page.filters, asked.channel or CHANNELS[0]
    facets = FacetsQuestion(path.product, path.probe, channel, NO_ROWS)
    panels = await ask_all(
        request,
        series=series_question(filters, path.probe),
        releases=releases_question(filters),
        entry=EntryQuestion(path.product, path.probe),
        together=TogetherQuestion(*filters.time_range, path.product, path.probe),
        built=facets,
        viewed=ViewedDaysQuestion(path.product, filters.channel, path.probe),
    )
    buckets = panels["series"].data["series"][0]["buckets"] if panels["series"].data else []
    if panels["entry"].data is None and not any(bucket["views"] for bucket in buckets):
        raise Problem(404, "Unknown probe", f"{path.product} has no probe {path.probe}; search for it by name")
    drawn = {
        "release_marks": release_marks(panels["releases"].data, filters.length),
        "over_time": {"Views": views_over_time(buckets), "Visitors": visitors_over_time(buckets)},
        "fresh": await how_fresh(request),
        "expired": has_expired((panels["entry"].data or {}).get("expires") or "never", filters.today),
        "recorded": Recorded.of(panels["viewed"].data, filters.days),
    }
    drawn |= await _newest_build(request, path, channel)
    drawn |= await rows_shown(request, facets, panels["built"], asked)
    return await page.shown("probe", panels, probe=path.probe, channel=channel, **drawn)


async def _led_to_product(request: web.Request, path: ProbePath, asked: ProbeView) -> web.Response:
    """Lead (303) to the probe of the same name in the product asked for, or to a search for it when it has none."""
    filters = (await begin(request, asked)).filters
    entry = await ask(request, EntryQuestion(filters.product, path.probe))
    if entry.data is None:
        location = "/probes" + filters.query(q=path.probe)
    else:
        location = f"/probes/{path_segment(filters.product)}/{path_segment(path.probe)}{filters.query(product=None)}"
    return web.Response(status=303, headers=HEADERS | {"Location": location})


class WaitingParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Channel of the build."""

    channel: Channel


async def get_waiting_section(request: web.Request) -> web.Response:
    """Answer with what the newest build of a probe waits for; empty when it is over."""
    path, asked = parameters_from(dict(request.match_info), ProbePath), query_parameters(request, WaitingParameters)
    return await html_answer(request, "waiting", await _newest_build(request, path, asked.channel))


async def _newest_build(request: web.Request, path: ProbePath, channel: str) -> dict[str, Build | Waiting | None]:
    """Return the newest build, and what it waits for while it is pending."""
    pool = service_of(request).pool
    only = BuildFilter(product=path.product, channel=channel, probe=path.probe)
    found = await read_page(pool, only, 1, None)
    build = next(iter(found.builds), None)
    if build is None or not build.pending:
        return {"build": build, "waiting": None}
    async with pool.acquire(timeout=5) as connection:
        place, builders = await queue_place(connection, build.build_id), await builder_state(connection)
    return {"build": build, "waiting": Waiting(place, builders)}
