"""Rows of the projections in the shape of the reference."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

from tests.support.reference import CatalogueEntry, ProbeDay, Session
from tests.support.servers import Connection


async def projected_sessions(database: Connection) -> list[Session]:
    """Read the sessions, in the order of visitor and start, and their names in theirs."""
    rows = await database.fetch("""
        SELECT visitor::text, started_at, ended_at, events, bot, products, probes, controls, tools_left,
               (entry).page AS first_page, (exit).page AS last_page, (entry).referrer AS referrer, came_from, role
        FROM sessions s ORDER BY s.visitor, started_at
    """)
    lists = ("products", "probes", "controls", "tools_left")
    return [Session(**(dict(row) | {name: tuple(sorted(row[name])) for name in lists})) for row in rows]


async def projected_session_counts(database: Connection) -> dict[tuple[Any, ...], int]:
    """Read the counts of sessions by hour, product ('' for all together), bot and role."""
    rows = await database.fetch("SELECT hour, product, bot, role, sessions FROM session_counts")
    return {tuple(row)[:4]: row["sessions"] for row in rows}


async def projected_popularity(database: Connection) -> dict[tuple[Any, ...], ProbeDay]:
    """Read views and visitors by product, day, probe, channel, bot; visitors are pseudonyms."""
    buckets = await projected_buckets(database, 1)
    for row in await database.fetch("""
        SELECT product, day, probe, channel, bot, visitor::text
        FROM popularity_visitors JOIN popularity_series USING (series)
    """):
        buckets[tuple(row)[:5]].visitors.add(row["visitor"])
    return buckets


async def projected_buckets(database: Connection, days: int) -> dict[tuple[Any, ...], ProbeDay]:
    """Read views in buckets of so many days by product, first day, probe, channel, bot; without visitors."""
    rows = await database.fetch(
        """
        SELECT product, first_day, probe, channel, bot, found, missing
        FROM popularity_views JOIN popularity_series USING (series) WHERE days = $1
        """,
        days,
    )
    return {tuple(row)[:5]: ProbeDay(row["found"], row["missing"]) for row in rows}


async def projected_returns(database: Connection) -> dict[tuple[Any, ...], int]:
    """Read returning visitors by product, probe, bot, channel ('*': any), day and their day before (None: no day)."""
    rows = await database.fetch("""
        SELECT product, probe, bot, channel, day, nullif(previous_day, '-infinity'), visitors
        FROM popularity_returns JOIN popularity_series USING (series)
    """)
    return {tuple(row)[:6]: row["visitors"] for row in rows}


async def projected_timeseries(database: Connection) -> dict[tuple[Any, ...], ProbeDay]:
    """Read views by product, probe ('' for all together), hour, channel, bot; visitors are pseudonyms."""
    rows = await database.fetch("SELECT product, probe, hour, channel, bot, found, missing, visitors FROM probe_hours")
    assert all(row["visitors"] == sorted(set(row["visitors"])) for row in rows)
    return {tuple(row)[:5]: ProbeDay(row["found"], row["missing"], set(map(str, row["visitors"]))) for row in rows}


async def projected_journeys(database: Connection) -> dict[tuple[str, datetime, str], tuple[str | None, ...]]:
    """Read the events of sessions by visitor, time and event id: kind and name of the step, product."""
    rows = await database.fetch(
        "SELECT visitor::text, occurred_at, event_id::text, kind, name, product FROM journey_events"
    )
    return {(row[0], row[1], row[2]): (row[3], row[4], row[5]) for row in rows}


async def projected_releases(database: Connection) -> dict[tuple[str, str, int], datetime]:
    """Read the times of releases by product, channel and version."""
    rows = await database.fetch("SELECT product, channel, version, published_at FROM releases")
    return {(row[0], row[1], row[2]): row[3] for row in rows}


async def projected_build_costs(
    database: Connection,
) -> dict[tuple[str, str, str, date], tuple[datetime, int, float | None]]:
    """Read the end, bytes and seconds of the last build of each product, channel, probe and day."""
    rows = await database.fetch("SELECT product, channel, probe, day, ended_at, bytes, seconds FROM build_costs")
    return {(row[0], row[1], row[2], row[3]): (row[4], row[5], row[6]) for row in rows}


async def projected_revisions(database: Connection) -> dict[tuple[str, str, str], tuple[str, str]]:
    """Read the last build of an hour and its revision, by product, channel and hour."""
    rows = await database.fetch("SELECT product, channel, build_hour, build_id, revision FROM build_revisions")
    return {(row[0], row[1], row[2]): (row[3], row[4]) for row in rows}


async def projected_catalogue(database: Connection) -> dict[tuple[str, str], CatalogueEntry]:
    """Read the catalogue by product and probe."""
    rows = await database.fetch(
        "SELECT product, probe, metric_type, definition, details, pings, registered_at, retired_at, built_at"
        " FROM catalogue"
    )
    return {
        (row[0], row[1]): CatalogueEntry(row[2], row[3], row[4], tuple(row[5]), row[6], row[7], row[8]) for row in rows
    }
