"""Unused probes: those of the catalogue that nobody viewed for some time, and what building them costs."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Literal, NamedTuple

import asyncpg
import msgspec

from usage_service.cursors import Cursor
from usage_service.hidden_probes import HiddenNames
from usage_service.hotlist.costs import Basis, Cost, CostReader
from usage_service.probe_keys import ProbeKey
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.windows import Days


class UnusedProbe(msgspec.Struct, frozen=True):
    """A probe that nobody viewed in the window; a view that found nothing counts as interest, one by a bot does not.

    `owners`, `expires` (a day, a version, `never` or `expired`) and `disabled` are as registered, null where nothing
    was said. `last_viewed_on` is the day of the last view by a person before the window, null when the log has none.
    `is_new` if the probe was registered within the window. `bytes` are what a night reads to build it, known from
    `bytes_basis`; null when no build has told yet.
    """

    product: str
    probe: str
    metric_type: str
    owners: list[str] | None
    expires: str | None
    disabled: bool
    registered_at: datetime
    last_viewed_on: date | None
    is_new: bool
    bot_views: int
    built_at: datetime | None
    bytes: int | None
    bytes_basis: Basis | None


class UnusedTotals(msgspec.Struct, frozen=True):
    """Number of unused probes, of those never viewed, of those registered within the window, and bytes of a night."""

    probes: int
    never_viewed: int
    new: int
    bytes: int | None


UnusedOrder = Literal["bytes", "last_viewed", "registered", "name"]


class UnusedCursor(Cursor, frozen=True):
    """Cursor at the last probe of a page: the key that it was ordered by, and its name."""

    key: float
    product: str
    probe: str


class UnusedFilter(NamedTuple):
    """Days without a view, product of the probes and channel of views and builds (None is any), and the order."""

    days: Days
    product: str | None = None
    channel: str | None = None
    order: UnusedOrder = "bytes"

    @property
    def since(self) -> datetime:
        """Return the beginning of the first day."""
        return datetime.combine(self.days.first, time.min, UTC)

    @property
    def until(self) -> datetime:
        """Return the end of the last day."""
        return datetime.combine(self.days.last, time.min, UTC) + timedelta(days=1)


class UnusedPage(NamedTuple):
    """Unused probes in their order, all of them in numbers, since when views are recorded, and the next cursor."""

    probes: list[UnusedProbe]
    totals: UnusedTotals
    recorded_since: date | None
    following: UnusedCursor | None


async def unused_probes(
    connection: Connection,
    costs: CostReader,
    hidden: HiddenNames,
    only: UnusedFilter,
    limit: int,
    after: UnusedCursor | None = None,
) -> UnusedPage:
    """Return the first `limit` probes that are neither viewed nor hidden, in an order; ties in the order of names.

    The most expensive come first, those viewed longest ago (never before all others), or those registered first.
    """
    asked = only.product, only.channel, only.since, only.until
    rows = await connection.fetch(query("unused", "unviewed"), *asked)
    keys = [ProbeKey(row["product"], row["probe"]) for row in rows]
    is_hidden = await hidden.mask(connection, keys)
    shown = [(key, row) for key, row, left_out in zip(keys, rows, is_hidden.tolist(), strict=True) if not left_out]
    known = await costs.read(connection, only.product, only.days.last)
    estimates = known.estimates((key for key, _ in shown), only.channel)
    probes = [_unused(only, row, cost) for (_, row), cost in zip(shown, estimates, strict=True)]
    found = sorted(((_cursor(only.order, one), one) for one in probes), key=lambda pair: _place(pair[0]))
    recorded_since: datetime | None = await connection.fetchval(query("unused", "recorded_since"), only.product)
    left = [one for cursor, one in found if after is None or _place(cursor) > _place(after)]
    page = left[:limit]
    return UnusedPage(
        page,
        _totals(probes),
        recorded_since.astimezone(UTC).date() if recorded_since else None,
        _cursor(only.order, page[-1]) if len(left) > limit else None,
    )


def _unused(only: UnusedFilter, row: asyncpg.Record, cost: Cost | None) -> UnusedProbe:
    last_viewed = row["last_viewed"]
    return UnusedProbe(
        product=row["product"],
        probe=row["probe"],
        metric_type=row["metric_type"],
        owners=row["owners"],
        expires=row["expires"],
        disabled=row["disabled"],
        registered_at=row["registered_at"],
        last_viewed_on=last_viewed.astimezone(UTC).date() if last_viewed else None,
        is_new=row["registered_at"] >= only.since,
        bot_views=row["bot_views"],
        built_at=row["built_at"],
        bytes=cost.bytes if cost else None,
        bytes_basis=cost.basis if cost else None,
    )


def _place(cursor: UnusedCursor) -> tuple[float, str, str]:
    return cursor.key, cursor.product, cursor.probe


def _cursor(order: UnusedOrder, one: UnusedProbe) -> UnusedCursor:
    keys: dict[UnusedOrder, float] = {
        "bytes": 1.0 if one.bytes is None else -one.bytes,
        "last_viewed": one.last_viewed_on.toordinal() if one.last_viewed_on else 0.0,
        "registered": one.registered_at.timestamp(),
        "name": 0.0,
    }
    return UnusedCursor(keys[order], one.product, one.probe)


def _totals(found: list[UnusedProbe]) -> UnusedTotals:
    costs = [one.bytes for one in found if one.bytes is not None]
    return UnusedTotals(
        probes=len(found),
        never_viewed=sum(one.last_viewed_on is None for one in found),
        new=sum(one.is_new for one in found),
        bytes=sum(costs) if costs or not found else None,
    )
