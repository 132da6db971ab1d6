"""GET /probes: search the catalogue by name; /probes/found: suggestions while somebody types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from usage_service.events import NO_NUL
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import search
from usage_service.web.answering import ListingQuestion
from usage_service.web.answers import Body, as_json
from usage_service.web.pages.filters import ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.panels import ask, html_answer

MOST_FOUND, MOST_SUGGESTED = 200, 12


class SearchParameters(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """Text to search for in names; an empty text finds all probes."""

    q: Annotated[str, Meta(max_length=200, pattern=NO_NUL)] = ""


@dataclass(frozen=True)
class SearchQuestion(ListingQuestion):
    """Probes whose names match a text."""

    product: str
    text: str
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of the catalogue."""
        return ("catalogue",)

    async def answer(self, connection: Connection) -> Body:
        """Return the probes, the best match first."""
        return as_json({"probes": await search(connection, self.product, self.text, self.limit)})


async def get_probes(request: web.Request) -> web.Response:
    """Answer with the page of the probes found."""
    asked = view_parameters(request, SearchParameters)
    page = await begin(request, asked)
    question = SearchQuestion(page.filters.product, asked.q.strip(), MOST_FOUND)
    return await page.show("search", {"found": question}, text=asked.q.strip(), most=MOST_FOUND)


async def get_found(request: web.Request) -> web.Response:
    """Answer with the best matches as a list of links."""
    asked = view_parameters(request, SearchParameters)
    page = await begin(request, asked)
    found = await ask(request, SearchQuestion(page.filters.product, asked.q.strip(), MOST_SUGGESTED))
    return await html_answer(request, "found", {"found": found, "filters": page.filters, "text": asked.q.strip()})
