"""The history that a backtest replays, from the projections of a running service."""

from __future__ import annotations

from datetime import date, timedelta

from usage_service.hotlist.backtest.replaying import BacktestError
from usage_service.hotlist.counts import DayCounts
from usage_service.hotlist.history import Histories
from usage_service.hotlist.scoring import HISTORY_DAYS
from usage_service.queries import query
from usage_service.shared.postgres import Connection


async def past_counts(connection: Connection, product: str | None, nights: int, last_day: date) -> DayCounts:
    """The days that so many nights up to `last_day` need, as far as there are any; raises BacktestError without one."""
    row = await connection.fetchrow(query("hotlist", "range"), product)
    if row is None or row["first"] is None or row["first"] > last_day:
        raise BacktestError(f"nobody asked for a probe up to {last_day}")
    last = min(row["last"], last_day)
    first = max(row["first"], last - timedelta(days=nights + HISTORY_DAYS - 1))
    return (await Histories().read(connection, product, first, last)).counts
