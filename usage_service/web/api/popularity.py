"""GET /v1/popularity: the probes that are viewed, in an order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.cursors import CursorText
from usage_service.events import Channel, Product
from usage_service.projections.state import Projection
from usage_service.shared.patterns import worded
from usage_service.shared.postgres import Connection
from usage_service.stats.popularity import Order, PopularityCursor, PopularProbe, Ranking, popular_probes
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.addresses import address, of_days
from usage_service.web.answering import ListingQuestion, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, listed
from usage_service.web.parameters import cursor_of, query_parameters
from usage_service.windows import Time, window_days

VIEW_COUNTS = web.AppKey("view_counts", ViewCounts)
Window = Annotated[
    str,
    Meta(
        pattern=worded(r"^[1-9][0-9]{0,3}d(?!\n)$", "a number of days from 1d to 9999d, such as 7d"),
        description="a number of days, such as 7d",
    ),
]
Limit = Annotated[int, Meta(ge=1, le=10_000)]


class PopularityParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Probes to rank, the window (7 days up to today by default), and the order.

    `hidden` lists what GLAM and operators hide, too. `cursor` is from the `next` link of an earlier answer: the list
    goes on from there.
    """

    product: Product | None = None
    channel: Channel | None = None
    window: Window | None = None
    since: Time | None = None
    until: Time | None = None
    order: Order = "most"
    bots: bool = False
    hidden: bool = False
    limit: Limit = 50
    cursor: CursorText | None = None


class PopularityAnswer(Struct, frozen=True):
    """Probes of a window, in the order asked for; `next` is the link to the probes that follow."""

    first_day: date
    last_day: date
    probes: list[PopularProbe]
    next: str | None


@dataclass(frozen=True)
class PopularityQuestion(ListingQuestion):
    """Probes by their views in a window."""

    ranking: Ranking
    limit: int
    after: PopularityCursor | None
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projection of views, and that of the catalogue when probes without views are listed (`least`)."""
        return ("catalogue", "popularity") if self.ranking.order == "least" else ("popularity",)

    async def answer(self, connection: Connection) -> Body:
        """Return the probes in their order, and the link to the next ones if there are any."""
        listing = await popular_probes(connection, self._counts, self.ranking, self.limit, self.after)
        following = self._at(listing.following) if listing.following else None
        days = self.ranking.days
        return as_json(PopularityAnswer(days.first, days.last, listing.probes, following), following)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        return self._at(self.after)

    def _at(self, cursor: PopularityCursor | None) -> str:
        days, *rest = self.ranking
        asked = of_days(days) | dict(zip(self.ranking._fields[1:], rest, strict=True))
        return address("/v1/popularity", **asked, limit=self.limit, cursor=cursor)


@described(*listed(json_of(PopularityAnswer)), query=PopularityParameters, table="probes")
async def get_popularity(request: web.Request) -> web.Response:
    """List probes with their views and visitors: most viewed, least viewed or fastest growing first."""
    asked = query_parameters(request, PopularityParameters)
    days = window_days(asked.window, asked.since, asked.until, datetime.now(UTC))
    ranking = Ranking(days, asked.product, asked.channel, asked.bots, asked.order, asked.hidden)
    after = cursor_of(asked.cursor, PopularityCursor)
    question = PopularityQuestion(ranking, asked.limit, after, request.app[VIEW_COUNTS])
    return await answer(request, asked, question)
