"""Which probes are looked at, in any window of days."""

from __future__ import annotations

from typing import Literal

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.windows import Days

Order = Literal["most", "least", "trending"]


class PopularProbe(msgspec.Struct, frozen=True):
    """A probe's views (of data that was there, or missing) and distinct visitors in a window.

    `trend` is the growth in views against the window of the same length before, in standard errors.
    """

    product: str
    probe: str
    views: int
    visitors: int
    found: int
    missing: int
    views_before: int
    trend: float


async def popular_probes(
    connection: Connection,
    days: Days,
    product: str | None,
    channel: str | None,
    with_bots: bool,
    order: Order,
    limit: int,
) -> list[PopularProbe]:
    """The `limit` most or least viewed or fastest growing probes; ties in the order of product and name."""
    rows = await connection.fetch(
        query("popularity", "ranked"), days.first, days.last, product, channel, with_bots, order, limit
    )
    return [PopularProbe(**row) for row in rows]
