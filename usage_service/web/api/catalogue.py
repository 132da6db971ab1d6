"""GET /v1/probes: the probes of the catalogue, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.cursors import Cursor, CursorText
from usage_service.events import NO_NUL, Product
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.catalogue import Entry, search
from usage_service.web.addresses import address
from usage_service.web.answering import ListingQuestion, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, listed
from usage_service.web.parameters import cursor_of, query_parameters

SearchText = Annotated[str, Meta(max_length=200, pattern=NO_NUL, description="a part of the name, or one like it")]
DEFAULT_LIMIT = 50


class PlaceCursor(Cursor, frozen=True):
    """Cursor at the last probe of a page: its place among those found."""

    place: Annotated[int, Meta(ge=1, le=10_000_000)]


class CatalogueParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Probes to list: all of the catalogue that are not hidden, or those whose names contain a text or are like it.

    `cursor` is from the `next` link of an earlier answer: the list goes on from there.
    """

    product: Product | None = None
    q: SearchText = ""
    limit: Annotated[int, Meta(ge=1, le=10_000)] = DEFAULT_LIMIT
    cursor: CursorText | None = None


class CatalogueAnswer(Struct, frozen=True):
    """Probes of the catalogue, the best match first; `next` is the link to those that follow."""

    probes: list[Entry]
    next: str | None


@dataclass(frozen=True)
class CatalogueQuestion(ListingQuestion):
    """Probes whose names match a text, from a place on."""

    product: str | None
    text: str
    limit: int
    after: PlaceCursor | None = None

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of the catalogue."""
        return ("catalogue",)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        return self._at(self.after)

    async def answer(self, connection: Connection) -> Body:
        """Return the probes, the best match first, and the link to the next ones if there are any."""
        place = self.after.place if self.after else 0
        found = await search(connection, self.product, self.text, place, self.limit + 1)
        following = self._at(PlaceCursor(place + self.limit)) if len(found) > self.limit else None
        return as_json(CatalogueAnswer(found[: self.limit], following), following)

    def _at(self, cursor: PlaceCursor | None) -> str:
        return address("/v1/probes", product=self.product, q=self.text or None, limit=self.limit, cursor=cursor)


@described(*listed(json_of(CatalogueAnswer)), query=CatalogueParameters, table="probes")
async def get_catalogue(request: web.Request) -> web.Response:
    """List the probes of the catalogue, or search them by name."""
    asked = query_parameters(request, CatalogueParameters)
    question = CatalogueQuestion(asked.product, asked.q.strip(), asked.limit, cursor_of(asked.cursor, PlaceCursor))
    return await answer(request, asked, question)
