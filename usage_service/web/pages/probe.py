"""GET /probes/{product}/{probe}: views of a probe, and its aggregates."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from aiohttp import web

from usage_service.builds.listing import BuildFilter, builder_state, queue_place, read_page
from usage_service.builds.requests import Build
from usage_service.events import Channel
from usage_service.problems import Problem
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import find_entry
from usage_service.web.answering import ListingQuestion
from usage_service.web.answers import Body, as_json
from usage_service.web.api.misses import MissQuestion
from usage_service.web.api.popularity import VIEW_COUNTS
from usage_service.web.api.probes import ProbePath
from usage_service.web.api.together import TogetherQuestion
from usage_service.web.keys import service_of
from usage_service.web.pages.filters import CHANNELS, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.overview import ViewedDaysQuestion, releases_question, series_question
from usage_service.web.pages.panels import HEADERS, ask, ask_all, how_fresh, html_answer
from usage_service.web.pages.presentation.builds import Waiting
from usage_service.web.pages.presentation.links import probe_links
from usage_service.web.pages.presentation.overview import (
    before_over_time,
    buckets_of,
    changes,
    over_time,
    release_marks,
)
from usage_service.web.pages.presentation.recorded import Recorded
from usage_service.web.pages.presentation.words import has_expired, path_segment
from usage_service.web.pages.rows import NO_ROWS, FacetsQuestion, ProbeView, rows_shown
from usage_service.web.parameters import parameters_from, query_parameters

MOST_TOGETHER, MOST_SESSIONS = 10, 10


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
        series_before=series_question(filters.compared or filters, path.probe),
        releases=releases_question(filters),
        entry=EntryQuestion(path.product, path.probe),
        misses=MissQuestion(filters.time_range, path.product, path.probe, MOST_SESSIONS),
        together=TogetherQuestion(
            filters.time_range, path.product, path.probe, MOST_TOGETHER, request.app[VIEW_COUNTS]
        ),
        built=facets,
        viewed=ViewedDaysQuestion(path.product, filters.channel, path.probe),
    )
    buckets = buckets_of(panels["series"].data)
    if panels["entry"].data is None and not any(bucket["views"] for bucket in buckets):
        raise Problem(404, "Unknown probe", f"{path.product} has no probe {path.probe}; search for it by name")
    drawn = {
        "release_marks": release_marks(panels["releases"].data, filters.length),
        "over_time": over_time(panels["series"].data, None),
        "before_over_time": before_over_time(filters.comparison, panels["series_before"].data),
        "changes": changes(filters.comparison, (panels["series"].data, []), (panels["series_before"].data, [])),
        "fresh": await how_fresh(request),
        "unit": (panels["entry"].data or {}).get("unit"),
        "expired": has_expired((panels["entry"].data or {}).get("expires") or "never", filters.today),
        "recorded": Recorded.of(panels["viewed"].data, filters.days),
    }
    entry = panels["entry"].data or {}
    settings = service_of(request).settings
    drawn["links"] = probe_links(settings, path.product, path.probe, channel, entry.get("pings", []))
    drawn |= await _newest_build(request, path, channel)
    drawn |= await rows_shown(request, facets, panels["built"], asked, filters)
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
