"""Popularity of probes: their views and visitors in any window of days."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import date
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from usage_service.cursors import Cursor
from usage_service.probe_keys import Floats, Ints, ProbeKey
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.stats.listings import Listing
from usage_service.stats.view_columns import ColumnIndex
from usage_service.stats.view_counts import FOUND, MISSING, ViewCounts
from usage_service.windows import Days

Order = Literal["most", "least", "trending"]


class PopularProbe(msgspec.Struct, frozen=True):
    """Views of a probe in a window (of data that was `found`, or was `missing`) and its distinct visitors.

    `views_before` are those in the window of the same length before; `trend` is the growth since, in standard errors.
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
    """Cursor at the last probe of a page, with the key that it was ordered by."""

    order_key: float
    product: str
    probe: str


class Ranking(NamedTuple):
    """Filter of the views that count, and the order in which probes are ranked by them; `hidden` probes, too."""

    days: Days
    product: str | None = None
    channel: str | None = None
    bots: bool = False
    order: Order = "most"
    hidden: bool = False


class PopularPage(NamedTuple):
    """Probes in their order, and the cursor of the next page if there is one."""

    probes: list[PopularProbe]
    following: PopularityCursor | None


class _WindowViews(NamedTuple):
    """Views of each probe in a window, and in the window of the same length before it."""

    probes: Sequence[ProbeKey]
    ranks: Ints  # the place of each probe in the order of names
    found: Ints
    missing: Ints
    before: Ints

    @property
    def views(self) -> Ints:
        """Return all views in the window, found and missing."""
        return self.found + self.missing


async def popular_probes(
    connection: Connection, counts: ViewCounts, ranking: Ranking, limit: int, after: PopularityCursor | None = None
) -> PopularPage:
    """Return the `limit` most viewed, least viewed or fastest growing probes; ties in the order of product and name.

    `most` and `trending` rank the probes that were viewed; `least` also those of the catalogue that nobody viewed.
    Views that come meanwhile may move a probe from one page to another; none is missed for any other reason.
    """
    columns, windows = await _windows(connection, counts, ranking)
    listed = windows.views > 0
    if ranking.order == "least":
        listing = await counts.listings.read(connection, columns, ranking.product)
        windows = _among(listing, windows)
        listed = (windows.views + windows.before > 0) | listing.is_listable
    if not ranking.hidden:
        listed &= ~await counts.hidden.mask(connection, windows.probes)
    keys = _order_keys(windows, ranking.order)
    if after is not None:
        place = bisect_right(sorted(windows.probes), (after.product, after.probe))
        listed &= (keys > after.order_key) | ((keys == after.order_key) & (windows.ranks >= place))
    candidates = np.flatnonzero(listed)
    order = candidates[np.lexsort((windows.ranks[candidates], keys[candidates]))].tolist()
    probes = await _page(connection, windows, order[:limit], ranking)
    last = order[limit - 1] if order[limit:] else None
    following = None if last is None else PopularityCursor(float(keys[last]), *windows.probes[last])
    return PopularPage(probes, following)


async def views_by_probe(
    connection: Connection, counts: ViewCounts, windows: Sequence[Days], probes: Sequence[ProbeKey], channel: str | None
) -> list[list[int]]:
    """Return the number of views by people for each probe, window by window; `probes` must be distinct."""
    read = await counts.read(connection, windows)
    columns = read[0].columns
    row_of = np.full(len(columns.probes), len(probes))
    for row, key in enumerate(probes):
        if key in columns.places:
            row_of[columns.places[key]] = row
    rows = row_of[columns.probe_of]
    chosen = columns.chosen(None, channel, bots=False)
    asked = chosen[rows[chosen] < len(probes)]
    totals = [np.bincount(rows[asked], views.counts(asked).sum(axis=0), len(probes)) for views in read]
    by_probe: list[list[int]] = np.array(totals, dtype=np.int64).T.tolist()
    return by_probe


def _by_probe(columns: ColumnIndex, chosen: Ints, counts: Ints) -> Ints:
    return np.bincount(columns.probe_of[chosen], counts, len(columns.probes)).astype(np.int64)


async def _windows(connection: Connection, counts: ViewCounts, ranking: Ranking) -> tuple[ColumnIndex, _WindowViews]:
    now, before = await counts.read(connection, [ranking.days, _before(ranking.days)])
    columns = now.columns
    chosen = columns.chosen(ranking.product, ranking.channel, bots=ranking.bots)
    counted = now.counts(chosen)
    found, missing, earlier = (
        _by_probe(columns, chosen, row) for row in (counted[FOUND], counted[MISSING], before.counts(chosen).sum(axis=0))
    )
    return columns, _WindowViews(columns.probes, columns.ranks, found, missing, earlier)


def _before(days: Days) -> Days:
    """Return the window of the same length before; it is shorter where the calendar begins."""
    first, last = (day.toordinal() for day in days)
    return Days(date.fromordinal(max(2 * first - last - 1, 1)), date.fromordinal(max(first - 1, 1)))


def _among(listing: Listing, windows: _WindowViews) -> _WindowViews:
    """Return the views of all probes of a listing."""
    number = len(listing.probes)
    found, missing, before = (
        np.bincount(listing.places, row, number).astype(np.int64)
        for row in (windows.found, windows.missing, windows.before)
    )
    return _WindowViews(listing.probes, np.arange(number), found, missing, before)


def _order_keys(windows: _WindowViews, order: Order) -> Floats:
    """Return the keys that probes are ordered by, the smallest first.

    A trend is the growth in views divided by its standard error, both windows taken as Poisson counts, so that 40
    against 20 outranks 2 against 1.
    """
    if order == "trending":
        return -_trends(windows)
    return np.where(order == "most", -1.0, 1.0) * windows.views


def _trends(windows: _WindowViews) -> Floats:
    views, before = windows.views, windows.before
    return np.asarray((views - before) / np.sqrt(np.maximum(views + before, 1)))


async def _page(
    connection: Connection, windows: _WindowViews, places: list[int], ranking: Ranking
) -> list[PopularProbe]:
    """Return the probes at these places, with their distinct visitors."""
    named = [windows.probes[place] for place in places]
    rows = await connection.fetch(
        query("popularity", "visitors"),
        [key.product for key in named],
        [key.probe for key in named],
        *ranking.days,
        ranking.channel,
        ranking.bots,
    )
    columns = (windows.views, windows.found, windows.missing, windows.before, np.round(_trends(windows), 3))
    views, found, missing, before, trends = (column[places].tolist() for column in columns)
    visitors = [row["visitors"] for row in rows]
    return [
        PopularProbe(*key, *numbers)
        for key, *numbers in zip(named, views, visitors, found, missing, before, trends, strict=True)
    ]
