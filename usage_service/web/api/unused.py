"""GET /v1/unused: the probes that nobody needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal
from urllib.parse import urlencode

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from usage_service.cursors import CursorText
from usage_service.events import Channel, Instant, Product
from usage_service.hotlist.history import Histories
from usage_service.hotlist.unused import (
    UnusedCursor,
    UnusedFilter,
    UnusedPage,
    UnusedProbe,
    UnusedTotals,
    unused_probes,
)
from usage_service.projections.state import Projection
from usage_service.shared.postgres import Connection
from usage_service.stats.view_counts import ViewCounts
from usage_service.web.answering import ListingQuestion, answer
from usage_service.web.answers import Body, as_csv, as_json
from usage_service.web.api.hotlist import HISTORIES
from usage_service.web.api.popularity import VIEW_COUNTS, Window
from usage_service.web.freshness import FreshnessParameters
from usage_service.web.openapi.operations import Content, described, json_of, listed
from usage_service.web.parameters import cursor_of, query_parameters
from usage_service.windows import window_days

DEFAULT_WINDOW = "90d"
CSV_COLUMNS = UnusedProbe.__struct_fields__
Form = Literal["json", "csv"]


class UnusedParameters(FreshnessParameters, forbid_unknown_fields=True):
    """Window without a view (90 days up to today by default), product of the probes, channel of views and builds.

    `cursor` is from the `next` link of an earlier answer, or from its Link header: the list goes on from there.
    """

    product: Product | None = None
    channel: Channel | None = None
    window: Window | None = None
    since: Instant | None = None
    until: Instant | None = None
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 50
    cursor: CursorText | None = None
    format: Form = "json"


class UnusedAnswer(Struct, frozen=True):
    """Unused probes, those that cost most first; `next` is the link to the probes that follow.

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
    format: Form
    _histories: Histories
    _counts: ViewCounts

    @property
    def reads(self) -> tuple[Projection, ...]:
        """Return the projections of the catalogue, of views by hour, and of what builds cost."""
        return ("build_costs", "catalogue", "timeseries")

    async def answer(self, connection: Connection) -> Body:
        """Return the probes, those that cost most first, and the link to the next ones if there are any."""
        found = await unused_probes(
            connection, self._histories.costs, self._counts.hidden, self.only, self.limit, self.after
        )
        following = self._link(found.following) if found.following else None
        if self.format == "csv":
            return as_csv(CSV_COLUMNS, map(_csv_row, found.probes), following)
        return as_json(_answer(self.only, found, following), following)

    def _link(self, following: UnusedCursor) -> str:
        """Return the link to the next probes, with the days of this window, so that it stays the same tomorrow."""
        days, product, channel = self.only
        asked: dict[str, object] = {"product": product, "channel": channel}
        asked |= {"since": f"{days.first}T00:00:00Z", "until": f"{days.last + timedelta(days=1)}T00:00:00Z"}
        asked |= {"limit": self.limit, "format": self.format, "cursor": str(following)}
        return f"/v1/unused?{urlencode({name: value for name, value in asked.items() if value is not None})}"


@described(*listed(json_of(UnusedAnswer), Content("text/csv", str)), query=UnusedParameters)
async def get_unused(request: web.Request) -> web.Response:
    """List the probes of the catalogue that nobody viewed for some time, those that cost most first.

    Retired and hidden probes are left out.
    """
    asked = query_parameters(request, UnusedParameters)
    window = asked.window or (DEFAULT_WINDOW if asked.since is None else None)
    only = UnusedFilter(window_days(window, asked.since, asked.until, datetime.now(UTC)), asked.product, asked.channel)
    after = cursor_of(asked.cursor, UnusedCursor)
    means = request.app[HISTORIES], request.app[VIEW_COUNTS]
    return await answer(request, asked, UnusedQuestion(only, asked.limit, after, asked.format, *means))


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


def _csv_row(one: UnusedProbe) -> list[object]:
    fields: dict[str, object] = msgspec.to_builtins(one)
    return [_cell(value) for value in fields.values()]


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(value)
    return str(value).lower() if isinstance(value, bool) else value
