"""GET /nights: nights under way and past ones; /nights/{night_id}: one night, its jobs and its probes."""

from __future__ import annotations

import msgspec
from aiohttp import web

from usage_service.builds.nights import NightCursor, NightFilter, night_probes, read_nights
from usage_service.cursors import CursorText
from usage_service.web.addresses import address
from usage_service.web.api.hotlist import prices_of
from usage_service.web.api.nights import PlaceCursor, existing_night, night_id_of
from usage_service.web.keys import service_of
from usage_service.web.pages.filters import ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.panels import how_fresh
from usage_service.web.pages.presentation.nights import JOB_STATES, night_shown
from usage_service.web.parameters import cursor_of

SHOWN, PROBES_SHOWN = 30, 500


class NightsView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Cursor at which the list goes on."""

    cursor: CursorText | None = None


async def get_nights_page(request: web.Request) -> web.Response:
    """Answer with the page of nights: those under way with their progress, and past ones, newest first."""
    asked = view_parameters(request, NightsView)
    page = await begin(request, asked)
    only = NightFilter(None, page.filters.product or None, page.filters.channel)
    found = await read_nights(service_of(request).pool, only, SHOWN, cursor_of(asked.cursor, NightCursor))
    nights = [night_shown(night, prices_of(request)) for night in found.nights]
    shown: dict[str, object] = {"nights": nights, "following": found.following}
    shown["address"] = address("/v1/nights", **msgspec.structs.asdict(only), limit=SHOWN, cursor=asked.cursor)
    return await page.shown("nights", {}, fresh=await how_fresh(request), **shown)


async def get_night_page(request: web.Request) -> web.Response:
    """Answer with the page of a night; raise a Problem (404) when there is none."""
    night_id = night_id_of(request)
    asked = view_parameters(request, NightsView)
    after = cursor_of(asked.cursor, PlaceCursor)
    async with service_of(request).pool.acquire(timeout=5) as connection:
        night = await existing_night(connection, night_id)
        probes = await night_probes(connection, night_id, None, after.place if after else 0, PROBES_SHOWN + 1)
    page = await begin(request, asked, night.product)
    shown: dict[str, object] = {"one": night_shown(night, prices_of(request)), "jobs": night.jobs}
    shown |= {"job_states": JOB_STATES, "probes": probes[:PROBES_SHOWN]}
    shown["following"] = PlaceCursor(probes[PROBES_SHOWN - 1].place) if len(probes) > PROBES_SHOWN else None
    shown["address"] = address(f"/v1/nights/{night_id}/probes", limit=PROBES_SHOWN, cursor=asked.cursor)
    return await page.shown("night", {}, fresh=await how_fresh(request), **shown)
