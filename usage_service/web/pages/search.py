"""GET /probes: search the catalogue by name; /probes/found: suggestions while somebody types."""

from __future__ import annotations

from aiohttp import web

from usage_service.cursors import CursorText
from usage_service.web.api.catalogue import CatalogueQuestion, PlaceCursor, SearchText
from usage_service.web.pages.filters import ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.panels import ask, following_cursor, how_fresh, html_answer
from usage_service.web.parameters import cursor_of

SHOWN, MOST_SUGGESTED = 200, 12


class SearchView(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Text to search for in names, where an empty one finds all probes, and the cursor at which the list goes on."""

    q: SearchText = ""
    cursor: CursorText | None = None


async def get_probes(request: web.Request) -> web.Response:
    """Answer with the page of the probes found."""
    asked = view_parameters(request, SearchView)
    page, text = await begin(request, asked), asked.q.strip()
    after = cursor_of(asked.cursor, PlaceCursor)
    found = await ask(request, CatalogueQuestion(page.filters.product, text, SHOWN, after))
    first = after.place + 1 if after else 1
    context = {"text": text, "first": first, "following": following_cursor(found), "fresh": await how_fresh(request)}
    return await page.shown("search", {"found": found}, **context)


async def get_found(request: web.Request) -> web.Response:
    """Answer with the best matches as a list of links."""
    asked = view_parameters(request, SearchView)
    page = await begin(request, asked)
    found = await ask(request, CatalogueQuestion(page.filters.product, asked.q.strip(), MOST_SUGGESTED))
    return await html_answer(request, "found", {"found": found, "filters": page.filters, "text": asked.q.strip()})
