"""Frame of every page: navigation, search, filters, and the freshness of the projections."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from aiohttp import web

from usage_service.problems import Problem
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import known_products
from usage_service.web.answering import Question
from usage_service.web.answers import Body, as_json
from usage_service.web.pages.filters import CHANNELS, COMPARISONS, WINDOWS, Filters, ViewParameters
from usage_service.web.pages.panels import Panel, answered, ask_all, how_fresh, html_answer

PAGES = {
    "/": "Overview",
    "/probes": "Probes",
    "/builds": "Builds",
    "/nights": "Nights",
    "/hotlist": "Hot list",
    "/unused": "Unused",
    "/sessions": "Sessions",
    "/releases": "Releases",
}


@dataclass(frozen=True)
class ProductsQuestion(Question):
    """Names of the products."""

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue and of views."""
        return ("catalogue", "popularity")

    async def answer(self, connection: Connection) -> Body:
        """Return the names of the products, that with the most probes first."""
        return as_json({"products": await known_products(connection)})


class Page:
    """Page that is being made: its request, its filters, and the products to choose from."""

    def __init__(self, request: web.Request, filters: Filters, products: list[str]) -> None:
        self.request = request
        self.filters = filters
        self.products = products

    async def show(self, template: str, panels: Mapping[str, Question], **context: object) -> web.Response:
        """Answer with the template and the panels of the questions, which are asked at the same time."""
        asked, fresh = await asyncio.gather(ask_all(self.request, **panels), how_fresh(self.request))
        return await self.shown(template, asked, fresh=fresh, **context)

    async def shown(self, template: str, panels: Mapping[str, Panel], **context: object) -> web.Response:
        """Answer with the template and these panels; the context has the projections' statuses as `fresh`."""
        frame: dict[str, object] = {
            "filters": self.filters,
            "products": self.products,
            "channels": sorted({*CHANNELS, *filter(None, [self.filters.channel])}),
            "windows": WINDOWS,
            "comparisons": COMPARISONS,
            "pages": PAGES,
            "path": self.request.path,
            "share": self._shared(),
        }
        position = min((panel.position for panel in panels.values()), default=0)
        headers = {"Log-Position": str(position)} if panels else {}
        return await html_answer(self.request, template, frame | dict(panels) | context, headers=headers)

    def _shared(self) -> str:
        """Return the address of this page with these very days, which shows the same tomorrow."""
        query = self.request.query
        chosen: dict[str, object] = {name: query.getall(name) for name, value in query.items() if value}
        chosen["until"] = self.filters.days.last + timedelta(days=1)
        return f"{self.request.path}{self.filters.query(**chosen)}"


async def begin(request: web.Request, asked: ViewParameters, product: str | None = None) -> Page:
    """Return a page for the parameters; a product in the path overrides that of the parameters.

    Raise a Problem: 404 for a product of which no probe was registered or viewed, 503 while no projection knows them.
    """
    found = await answered(request, ProductsQuestion())
    products: list[str] = found.data["products"]
    chosen = product or asked.product or next(iter(products), "")
    if chosen and chosen not in products:
        known = f"known are {', '.join(products)}" if products else "none is known yet"
        detail = f"no probe of {chosen} was registered or viewed; {known}"
        raise Problem(404, "Unknown product", detail, products=products)
    return Page(request, Filters.of(asked, chosen, datetime.now(UTC)), products)
