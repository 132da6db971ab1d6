"""GET /probes: the catalogue by name; /probes/found: the same, for the field that searches while one types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from usage_service.events import NO_NUL
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import search
from usage_service.web.answering import Question
from usage_service.web.answers import Body, as_json
from usage_service.web.pages.filters import ViewParameters, view_parameters
from usage_service.web.pages.frame import begin
from usage_service.web.pages.panels import ask, html_answer

MOST_FOUND, MOST_SUGGESTED = 200, 12


class SearchParameters(ViewParameters, kw_only=True, forbid_unknown_fields=True):
    """What to look for in names; nothing finds all."""

    q: Annotated[str, Meta(max_length=200, pattern=NO_NUL)] = ""


@dataclass(frozen=True)
class SearchQuestion(Question):
    """Which probes have a name like this."""

    product: str
    text: str
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Nothing but the catalogue."""
        return ("catalogue",)

    async def answer(self, connection: Connection) -> Body:
        """The probes, the best match first."""
        return as_json({"probes": await search(connection, self.product, self.text, self.limit)})


async def get_probes(request: web.Request) -> web.Response:
    """The page of what was found."""
    asked = view_parameters(request, SearchParameters)
    page = await begin(request, asked)
    question = SearchQuestion(page.filters.product, asked.q.strip(), MOST_FOUND)
    return await page.show("search", {"found": question}, text=asked.q.strip(), most=MOST_FOUND)


async def get_found(request: web.Request) -> web.Response:
    """The best few as a list of links."""
    asked = view_parameters(request, SearchParameters)
    page = await begin(request, asked)
    found = await ask(request, SearchQuestion(page.filters.product, asked.q.strip(), MOST_SUGGESTED))
    return await html_answer(request, "found", {"found": found, "filters": page.filters, "text": asked.q.strip()})
