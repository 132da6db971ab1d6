"""Whoever fills a table has the planner look at it: what a session planned while tables were empty does not stay."""

from __future__ import annotations

import pytest

from tests.support.servers import Connection
from tests.support.traffic import append_traffic, ignore
from usage_service.projections.rebuilding import rebuild

# Nobody comes by himself.
LEFT_ALONE = """
ALTER TABLE event_log SET (autovacuum_enabled = off);
ALTER TABLE sessions SET (autovacuum_enabled = off);
ALTER TABLE journey_events SET (autovacuum_enabled = off);
"""
ALL = "SELECT array_agg(name) FROM projections"
COUNTS = {
    "event_log": "SELECT count(*) FROM event_log",
    "journey_events": "SELECT count(*) FROM journey_events",
}
KNOWN = "SELECT reltuples::bigint FROM pg_class WHERE oid = $1::regclass"
LOOKED = "SELECT sum(analyze_count)::bigint FROM pg_stat_user_tables WHERE relname IN ('event_log', 'journey_events')"


async def is_about(database: Connection, table: str) -> bool:
    """Return whether the planner knows within a factor of nine how many rows a table has."""
    number: int = await database.fetchval(COUNTS[table])
    known: int = await database.fetchval(KNOWN, table)
    return number / 9 <= known <= number


@pytest.mark.parametrize("size", [100, 20_000])
async def test_tables_are_looked_at_as_they_grow(own_database: Connection, size: int) -> None:
    await own_database.execute(LEFT_ALONE)
    names = await own_database.fetchval(ALL)
    end = await append_traffic(own_database, 5_000)
    for _ in range(0, end, size):
        await own_database.execute("SELECT advance_together($1, $2)", names, size)
    assert await is_about(own_database, "event_log")
    assert await is_about(own_database, "journey_events")
    # As they grow, not as time passes: a batch that adds little brings nobody.
    await own_database.execute("SELECT pg_stat_force_next_flush()")
    before = await own_database.fetchval(LOOKED)
    assert 2 <= before <= 4
    await append_traffic(own_database, 50)
    await own_database.execute("SELECT advance_together($1, $2)", names, size)
    await own_database.execute("SELECT pg_stat_force_next_flush()")
    assert await own_database.fetchval(LOOKED) == before


async def test_what_was_rebuilt_is_known_when_it_goes_live(own_database: Connection) -> None:
    await append_traffic(own_database, 5_000)
    await rebuild(own_database, "journeys", {}, ignore)
    assert await is_about(own_database, "journey_events")
