"""GET /v1/popularity: what is looked at."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from usage_service.events import Channel, Instant, Product
from usage_service.popularity import Order, popular_probes
from usage_service.projections import Projection
from usage_service.shared.postgres import Connection
from usage_service.web.answering import Question, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.parameters import query_parameters
from usage_service.windows import Days, window_days

Window = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,3}d(?!\n)$", description="a number of days, such as 7d")]
Limit = Annotated[int, Meta(ge=1, le=10_000)]


class PopularityParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Which probes, in which window (7 days up to today, unless said otherwise), in which order."""

    product: Product | None = None
    channel: Channel | None = None
    window: Window | None = None
    since: Instant | None = None
    until: Instant | None = None
    order: Order = "most"
    bots: bool = False
    limit: Limit = 50


@dataclass(frozen=True)
class PopularityQuestion(Question):
    """Which probes were looked at on these days."""

    days: Days
    product: str | None
    channel: str | None
    bots: bool
    order: Order
    limit: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Only `least` has those that nobody looked at."""
        return ("catalogue", "popularity") if self.order == "least" else ("popularity",)

    async def answer(self, connection: Connection) -> Body:
        """The probes in their order."""
        probes = await popular_probes(
            connection, self.days, self.product, self.channel, self.bots, self.order, self.limit
        )
        return as_json({"first_day": self.days.first, "last_day": self.days.last, "probes": probes})


async def get_popularity(request: web.Request) -> web.Response:
    """Probes with views and visitors, most or least viewed or fastest growing first."""
    asked = query_parameters(request, PopularityParameters)
    days = window_days(asked.window, asked.since, asked.until, datetime.now(UTC))
    question = PopularityQuestion(days, asked.product, asked.channel, asked.bots, asked.order, asked.limit)
    return await answer(request, asked, question)
