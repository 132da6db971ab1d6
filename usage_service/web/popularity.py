"""GET /v1/popularity and /v1/hotlist: what is looked at, and what is worth building."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from usage_service.events import Channel, Instant, Product
from usage_service.hotlist import hot_probes
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


class HotlistParameters(FreshnessParameters, forbid_unknown_fields=True):
    """How many probes, judged by which window (28 days up to today, unless said otherwise)."""

    product: Product | None = None
    window: Window | None = None
    since: Instant | None = None
    until: Instant | None = None
    budget: Limit = 100


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
        return _with_days(self.days, probes)


@dataclass(frozen=True)
class HotlistQuestion(Question):
    """What is worth building, judged by these days."""

    days: Days
    product: str | None
    budget: int

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Views alone decide."""
        return ("popularity",)

    async def answer(self, connection: Connection) -> Body:
        """The probes, the best first."""
        return _with_days(self.days, await hot_probes(connection, self.days, self.product, self.budget))


def _with_days(days: Days, probes: object) -> Body:
    return as_json({"first_day": days.first, "last_day": days.last, "probes": probes})


async def get_popularity(request: web.Request) -> web.Response:
    """Probes with views and visitors, most or least viewed or fastest growing first."""
    asked = query_parameters(request, PopularityParameters)
    days = window_days(asked.window, asked.since, asked.until, datetime.now(UTC))
    question = PopularityQuestion(days, asked.product, asked.channel, asked.bots, asked.order, asked.limit)
    return await answer(request, asked, question)


async def get_hotlist(request: web.Request) -> web.Response:
    """The probes to build, each with its score and reasons."""
    asked = query_parameters(request, HotlistParameters)
    window = asked.window or (None if asked.since else "28d")
    days = window_days(window, asked.since, asked.until, datetime.now(UTC))
    return await answer(request, asked, HotlistQuestion(days, asked.product, asked.budget))
