"""GET /builds: the queue of builds, and their progress and outcome."""

from __future__ import annotations

from typing import get_args

import msgspec
from aiohttp import web

from usage_service.builds.listing import BuildCursor, BuildFilter, queue_states, read_page
from usage_service.builds.requests import State
from usage_service.cursors import CursorText
from usage_service.web.addresses import address
from usage_service.web.api.build_answers import build_id_of
from usage_service.web.api.projections import NoParameters
from usage_service.web.api.statements import known_statement
from usage_service.web.keys import service_of
from usage_service.web.pages.filters import ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.panels import how_fresh, html_answer
from usage_service.web.pages.presentation.builds import parameters_shown, queue_shown
from usage_service.web.parameters import cursor_of, query_parameters

SHOWN = 50


class BuildsView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """State of the builds (any by default), and the cursor at which the list goes on."""

    state: State | None = None
    cursor: CursorText | None = None


async def get_builds_page(request: web.Request) -> web.Response:
    """Answer with the page of builds, newest first."""
    asked = view_parameters(request, BuildsView)
    page = await begin(request, asked)
    only = BuildFilter(asked.state, page.filters.product or None, page.filters.channel)
    pool = service_of(request).pool
    builds = await read_page(pool, only, SHOWN, cursor_of(asked.cursor, BuildCursor))
    async with pool.acquire(timeout=5) as connection:
        queue = queue_shown(await queue_states(connection))
    shown: dict[str, object] = {
        "builds": builds,
        "queue": queue,
        "states": get_args(State),
        "chosen_state": asked.state,
    }
    shown["address"] = address("/v1/builds", **msgspec.structs.asdict(only), limit=SHOWN, cursor=asked.cursor)
    return await page.shown("builds", {}, fresh=await how_fresh(request), **shown)


async def get_statement_section(request: web.Request) -> web.Response:
    """Answer with the SQL of a build; raise a Problem (404) when it is not known."""
    query_parameters(request, NoParameters)
    one = await known_statement(request, build_id_of(request))
    return await html_answer(request, "statement", {"one": one, "parameters": parameters_shown(one.parameters)})
