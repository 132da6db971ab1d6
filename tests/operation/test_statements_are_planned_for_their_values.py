"""Statements with optional conditions are planned for what is asked, however often they ran: no history is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime

import pytest

from tests.support.builders import put_in_catalogue
from tests.support.servers import Connection
from usage_service.builds.listing import BuildFilter, read_page
from usage_service.hotlist.costs import CostReader
from usage_service.projections.state import snapshot
from usage_service.queries import query
from usage_service.shared.postgres import Pool, at_one_instant, open_pool
from usage_service.stats.feed import NewsFilter, read_news

HISTORY = 20_000
ENDED = """
    INSERT INTO builds
        (product, channel, probe, metric_type, pings, state, rows, not_before, requested_at, finished_at, log_position)
    SELECT 'fog', 'nightly', 'p' || n % 500, 'counter', '{}', 'succeeded', 1, at, at, at, n
    FROM (SELECT n, now() - n * interval '1 minute' AS at FROM generate_series(1, $1::integer) n) past
"""
COSTS = """
    INSERT INTO build_costs SELECT product, channel, probe, utc_day(finished_at), max(finished_at), 1, 1 FROM builds
    WHERE state = 'succeeded' GROUP BY 1, 2, 3, 4
"""
NOW = datetime.now(UTC)
PENDING = ("one_build_under_way", "builds_leased", "builds_to_claim")
# Statements, what they may be asked, and the indexes one of which serves that.
READING = [
    (("builds", "page"), "'queued', NULL, NULL, NULL, NULL, NULL, 51", PENDING),
    (("builds", "page"), "'running', NULL, NULL, NULL, NULL, NULL, 51", PENDING),
    (("builds", "page"), "'failed', NULL, NULL, NULL, NULL, NULL, 51", ("builds_by_state",)),
    (("builds", "page"), "'cancelled', 'fog', NULL, NULL, now(), gen_random_uuid(), 51", ("builds_by_state",)),
    (("builds", "page"), "NULL, 'fog', 'nightly', 'p1', NULL, NULL, 51", ("builds_of_a_probe",)),
    (("builds", "page"), "NULL, NULL, NULL, NULL, NULL, NULL, 51", ("builds_by_request",)),
    (("build_costs", "known"), "NULL, '2100-01-01'", ("build_costs_pkey",)),
    (("feed", "news"), "'fog', 'p1', '{built}', now(), NULL, NULL, 51, '90 days'", ("builds_of_a_probe",)),
    (("feed", "news"), "NULL, NULL, '{built}', now(), NULL, NULL, 51, '90 days'", ("builds_by_end",)),
    (("feed", "news"), "NULL, NULL, '{built}', now(), now(), 'x', 51, '90 days'", ("builds_by_end",)),
]


@pytest.fixture
async def pool(own_database: Connection, own_database_url: str) -> AsyncIterator[Pool]:
    """Open a pool of one session, which turns to plans for any values at once, beside builds of two weeks."""
    await put_in_catalogue(own_database, "new")
    await own_database.execute(ENDED, HISTORY)
    await own_database.execute(COSTS)
    await own_database.execute("SELECT request_build('fog', 'nightly', 'new', 'test')")
    await own_database.execute("ANALYZE builds, build_costs")
    name = await own_database.fetchval("SELECT quote_ident(current_database())")
    await own_database.execute(f"ALTER DATABASE {name} SET plan_cache_mode = force_generic_plan")
    async with open_pool(own_database_url, role="usage_server", application="tests", size=1) as opened:
        yield opened


async def test_what_is_asked_for_is_planned_each_time(pool: Pool) -> None:
    for state in ("queued", None):
        page = await read_page(pool, BuildFilter(state=state), 50, None)
        assert len(page.builds) == (1 if state else 50)
    async with snapshot(pool, "build_costs", "catalogue") as seen:
        assert (await CostReader().read(seen.connection, "fog", date.today())).known
        assert (await read_news(seen.connection, NewsFilter("fog", "p1", ("built",)), NOW, 50, None)).news
    async with pool.acquire() as connection:
        plans = {
            row["statement"]: (row["custom_plans"], row["generic_plans"])
            for row in await connection.fetch(
                "SELECT statement, custom_plans, generic_plans FROM pg_prepared_statements"
            )
        }
    assert plans[query("builds", "page")] == (2, 0)
    assert plans[query("build_costs", "known")] == plans[query("feed", "news")] == (1, 0)


async def test_no_history_is_read(pool: Pool) -> None:
    async with at_one_instant(pool) as connection:
        for place, values, indexes in READING:
            await connection.execute(f"PREPARE asked AS {query(*place)}")
            plan = "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN EXECUTE asked ({values})"))
            await connection.execute("DEALLOCATE asked")
            assert any(f" using {index} on" in plan for index in indexes), plan
            assert "Seq Scan on builds" not in plan
            assert "Seq Scan on build_costs" not in plan
