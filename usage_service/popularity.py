"""Which probes are looked at, in any window of days."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from usage_service.cursors import Cursor
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


class PopularityCursor(Cursor, frozen=True):
    """The last probe of a page, and what it was ordered by."""

    order_key: float
    product: str
    probe: str


class Ranking(NamedTuple):
    """Which views count, and in which order probes are ranked by them."""

    days: Days
    product: str | None = None
    channel: str | None = None
    bots: bool = False
    order: Order = "most"


class PopularPage(NamedTuple):
    """Probes in their order, and where the next page begins if there is one."""

    probes: list[PopularProbe]
    following: PopularityCursor | None


async def popular_probes(
    connection: Connection, ranking: Ranking, limit: int, after: PopularityCursor | None = None
) -> PopularPage:
    """The `limit` most or least viewed or fastest growing probes; ties in the order of product and name.

    Views that come meanwhile may move a probe from one page to another; none is missed for any other reason.
    """
    (first, last), *others = ranking
    place = msgspec.structs.astuple(after) if after else (None, None, None)
    rows = await connection.fetch(query("popularity", "ranked"), first, last, *others, limit + 1, *place)
    probes = [msgspec.convert(dict(row), PopularProbe) for row in rows[:limit]]
    following = PopularityCursor(*tuple(rows[limit - 1])[:3]) if len(rows) > limit else None
    return PopularPage(probes, following)
