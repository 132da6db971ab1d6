"""GET /unused: the probes that nobody needs."""

from __future__ import annotations

import asyncio

from aiohttp import web

from usage_service.cursors import CursorText
from usage_service.hotlist.unused import UnusedCursor, UnusedFilter, UnusedOrder
from usage_service.web.api.hotlist import HISTORIES
from usage_service.web.api.popularity import VIEW_COUNTS
from usage_service.web.api.unused import UnusedQuestion
from usage_service.web.pages.filters import PageWindow, ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.panels import ask, following_cursor, how_fresh
from usage_service.web.parameters import cursor_of

SHOWN = 200


class UnusedView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Days without a view, 90 by default, the order of the list, and the cursor at which it goes on."""

    window: PageWindow = "90d"
    order: UnusedOrder = "bytes"
    cursor: CursorText | None = None


async def get_unused_page(request: web.Request) -> web.Response:
    """Answer with the page of the probes that nobody viewed, those that cost most first."""
    asked = view_parameters(request, UnusedView)
    page = await begin(request, asked)
    only = UnusedFilter(page.filters.days, page.filters.product or None, page.filters.channel, asked.order)
    after = cursor_of(asked.cursor, UnusedCursor)
    means = request.app[HISTORIES], request.app[VIEW_COUNTS]
    question = UnusedQuestion(only, SHOWN, after, *means)
    found, fresh = await asyncio.gather(ask(request, question), how_fresh(request))
    return await page.shown(
        "unused", {"unused": found}, fresh=fresh, following=following_cursor(found), order=asked.order
    )
