"""The rows of the projections in the shape of the reference."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.reference import CatalogueEntry, ProbeDay, Session
from tests.support import Connection


async def projected_sessions(database: Connection) -> list[Session]:
    """All sessions, by visitor and start."""
    rows = await database.fetch("""
        SELECT visitor::text, started_at, ended_at, events, bot, products, probes, controls, tools_left,
               (entry).page AS first_page, (exit).page AS last_page, (entry).referrer AS referrer, came_from, role
        FROM sessions s ORDER BY s.visitor, started_at
    """)
    lists = ("products", "probes", "controls", "tools_left")
    return [Session(**(dict(row) | {name: tuple(row[name]) for name in lists})) for row in rows]


async def projected_popularity(database: Connection) -> dict[tuple[Any, ...], ProbeDay]:
    """By product, day, probe, channel, bot; visitors are pseudonyms."""
    days = {
        tuple(row)[:5]: ProbeDay(row["found"], row["missing"])
        for row in await database.fetch("SELECT product, day, probe, channel, bot, found, missing FROM popularity_days")
    }
    for row in await database.fetch("SELECT product, day, probe, channel, bot, visitor::text FROM popularity_visitors"):
        days[tuple(row)[:5]].visitors.add(row["visitor"])
    return days


async def projected_releases(database: Connection) -> dict[tuple[str, str, int], datetime]:
    """By product, channel and version."""
    rows = await database.fetch("SELECT product, channel, version, published_at FROM releases")
    return {(row[0], row[1], row[2]): row[3] for row in rows}


async def projected_catalogue(database: Connection) -> dict[tuple[str, str], CatalogueEntry]:
    """By product and probe."""
    rows = await database.fetch(
        "SELECT product, probe, metric_type, definition, pings, registered_at, retired_at, built_at FROM catalogue"
    )
    return {(row[0], row[1]): CatalogueEntry(row[2], row[3], tuple(row[4]), row[5], row[6], row[7]) for row in rows}
