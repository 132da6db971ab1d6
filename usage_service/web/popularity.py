"""GET /v1/popularity and /v1/hotlist: what is looked at, and what is worth building."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
from aiohttp import web
from msgspec import Meta

from usage_service.events import Channel, Instant, Product
from usage_service.hotlist import hot_probes
from usage_service.popularity import Order, popular_probes
from usage_service.projections import snapshot
from usage_service.web.answers import json_answer
from usage_service.web.keys import service_of
from usage_service.web.parameters import query_parameters
from usage_service.windows import window_days

Window = Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,3}d(?!\n)$", description="a number of days, such as 7d")]
Limit = Annotated[int, Meta(ge=1, le=10_000)]


class PopularityParameters(msgspec.Struct, forbid_unknown_fields=True):
    """Which probes, in which window (7 days up to today, unless said otherwise), in which order."""

    product: Product | None = None
    channel: Channel | None = None
    window: Window | None = None
    since: Instant | None = None
    until: Instant | None = None
    order: Order = "most"
    bots: bool = False
    limit: Limit = 50


class HotlistParameters(msgspec.Struct, forbid_unknown_fields=True):
    """How many probes, judged by which window (28 days up to today, unless said otherwise)."""

    product: Product | None = None
    window: Window | None = None
    since: Instant | None = None
    until: Instant | None = None
    budget: Limit = 100


async def get_popularity(request: web.Request) -> web.Response:
    """Probes with views and visitors, most or least viewed or fastest growing first."""
    asked = query_parameters(request, PopularityParameters)
    days = window_days(asked.window, asked.since, asked.until, datetime.now(UTC))
    async with snapshot(service_of(request).pool, "popularity") as seen:
        probes = await popular_probes(
            seen.connection, days, asked.product, asked.channel, asked.bots, asked.order, asked.limit
        )
    return json_answer({"first_day": days.first, "last_day": days.last, "probes": probes}, position=seen.position)


async def get_hotlist(request: web.Request) -> web.Response:
    """The probes to build, each with its score and reasons."""
    asked = query_parameters(request, HotlistParameters)
    window = asked.window or (None if asked.since else "28d")
    days = window_days(window, asked.since, asked.until, datetime.now(UTC))
    async with snapshot(service_of(request).pool, "popularity") as seen:
        probes = await hot_probes(seen.connection, days, asked.product, asked.budget)
    return json_answer({"first_day": days.first, "last_day": days.last, "probes": probes}, position=seen.position)
