"""GET /v1/unused: the probes that nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated

from aiohttp import web
from msgspec import Meta, Struct

from usage_service.cursors import CursorText
from usage_service.events import Channel, Product
from usage_service.hotlist.history import Histories
from usage_service.hotlist.unused import (
    UnusedCursor,
    UnusedFilter,
    UnusedOrder,
    UnusedPage,
    UnusedProbe,
    UnusedTotals,
    unused_probes,
)
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.addresses import address, of_days
from usage_service.web.answering import ListingQuestion, answer
from usage_service.web.answers import Body, as_json
from usage_service.web.api.hotlist import HISTORIES
from usage_service.web.api.popularity import VIEW_COUNTS, Window
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import described, json_of, listed
from usage_service.web.parameters import cursor_of, query_parameters
from usage_service.windows import Time, window_days

DEFAULT_WINDOW = "90d"


class UnusedParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Window without a view (90 days up to today by default), product of the probes, channel of views and builds.

    The most expensive probes come first (`bytes`), those viewed longest ago or never, those registered first, or names.
    `cursor` is from the `next` link of an earlier answer, or from its Link header: the list goes on from there.
    """

    product: Product | None = None
    channel: Channel | None = None
    window: Window | None = None
    since: Time | None = None
    until: Time | None = None
    order: UnusedOrder = "bytes"
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 50
    cursor: CursorText | None = None


class UnusedAnswer(Struct, frozen=True):
    """Unused probes in the order asked for; `next` is the link to the probes that follow.

    `totals` counts all of them. `recorded_since` is the day of the first recorded view of any probe; `blind_spot` says
    which views the service cannot know of.
    """

    first_day: date
    last_day: date
    recorded_since: date | None
    blind_spot: str
    totals: UnusedTotals
    probes: list[UnusedProbe]
    next: str | None


@dataclass(frozen=True)
class UnusedQuestion(ListingQuestion):
    """Probes that nobody viewed in a window."""

    only: UnusedFilter
    limit: int
    after: UnusedCursor | None
    _histories: Histories
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue, of views by hour, and of what builds cost."""
        return ("build_costs", "catalogue", "timeseries")

    async def answer(self, connection: Connection) -> Body:
        """Return the probes, in their order, and the link to the next ones if there are any."""
        found = await unused_probes(
            connection, self._histories.costs, self._counts.hidden, self.only, self.limit, self.after
        )
        following = self._at(found.following) if found.following else None
        return as_json(_answer(self.only, found, following), following)

    @property
    def address(self) -> str:
        """Return where the API answers this question."""
        return self._at(self.after)

    def _at(self, cursor: UnusedCursor | None) -> str:
        days, product, channel, order = self.only
        asked = {"product": product, "channel": channel, **of_days(days), "order": order}
        return address("/v1/unused", **asked, limit=self.limit, cursor=cursor)


@described(*listed(json_of(UnusedAnswer)), query=UnusedParameters, table="probes")
async def get_unused(request: web.Request) -> web.Response:
    """List the probes of the catalogue that nobody viewed for some time, those that cost most first.

    Retired and hidden probes are left out.
    """
    asked = query_parameters(request, UnusedParameters)
    window = asked.window or (DEFAULT_WINDOW if asked.since is None else None)
    days = window_days(window, asked.since, asked.until, datetime.now(UTC))
    only = UnusedFilter(days, asked.product, asked.channel, asked.order)
    after = cursor_of(asked.cursor, UnusedCursor)
    means = request.app[HISTORIES], request.app[VIEW_COUNTS]
    return await answer(request, asked, UnusedQuestion(only, asked.limit, after, *means))


def _answer(only: UnusedFilter, found: UnusedPage, following: str | None) -> UnusedAnswer:
    days = only.days
    seen = _blind_spot(only, found.recorded_since)
    return UnusedAnswer(days.first, days.last, found.recorded_since, seen, found.totals, found.probes, following)


def _blind_spot(only: UnusedFilter, recorded_since: date | None) -> str:
    """Say which views may have been missed: those before the log began, and those elsewhere."""
    elsewhere = "what was viewed elsewhere, or in an app that does not post its events"
    if recorded_since is None:
        return f"no view was ever recorded here; the log does not show {elsewhere}"
    if recorded_since > only.days.first:
        before = f"views are recorded since {recorded_since}, after these days began"
        return f"{before}; the log shows neither what was viewed until then nor {elsewhere}"
    return f"the log does not show {elsewhere}, nor what was viewed before {recorded_since}"
