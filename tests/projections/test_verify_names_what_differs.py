"""A verification says that a projection is what a rebuild makes of the log, or names the rows that are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import pytest

from tests.support.servers import Connection, eventually
from tests.support.traffic import PROJECTIONS, append_traffic, assert_as_the_reference, fold_all, ignore, leftovers
from usage_service.projections.rebuilding import MaintenanceError, Verdict, rebuild, verify
from usage_service.projections.runner import Runners
from usage_service.shared.postgres import connect, open_pool

# What is done to the live rows; the projection and the table; which rows are only live, and only in the rebuild.
TAMPERED = [
    ("UPDATE sessions SET events = events + 1 WHERE visitor = (SELECT min(visitor::text)::uuid FROM sessions)"
     " AND started_at = (SELECT min(started_at) FROM sessions s WHERE s.visitor = sessions.visitor)",
     "sessions", "sessions", 1, 1),
    ("DELETE FROM sessions WHERE ctid = (SELECT min(ctid) FROM sessions)", "sessions", "sessions", 0, 1),
    ("INSERT INTO sessions VALUES (gen_random_uuid(), now(), now(), 1, false, NULL, NULL, '{}', '{}', '{}', '{}')",
     "sessions", "sessions", 1, 0),
    ("UPDATE popularity_views SET found = found + 1, missing = missing - 1 WHERE (days, first_day, series, channel)"
     " = (1, '2026-11-21', series_number('fog', 'gc_ms', false), 'nightly')",
     "popularity", "popularity_views", 1, 1),
    ("DELETE FROM popularity_visitors WHERE ctid = (SELECT min(ctid) FROM popularity_visitors)",
     "popularity", "popularity_visitors", 0, 1),
    ("UPDATE catalogue SET built_at = built_at + interval '1 us' WHERE probe = 'gc_ms' AND product = 'fog'",
     "catalogue", "catalogue", 1, 1),
    ("INSERT INTO releases VALUES ('fog', 'nightly', 9001, now()), ('fog', 'nightly', 9002, now())",
     "releases", "releases", 2, 0),
]  # fmt: skip


async def test_what_was_changed_is_named(own_database: Connection) -> None:
    await append_traffic(own_database, 400)
    await fold_all(own_database)
    for tampering, projection, table, live, rebuilt in TAMPERED:
        assert (await verify(own_database, projection, ignore)).equal
        await own_database.execute(tampering)
        verdict = await verify(own_database, projection, ignore)
        assert not verdict.equal
        assert [found.name for found in verdict.tables if not found.equal] == [table], tampering
        [differing] = [found for found in verdict.tables if found.name == table]
        found = [where for where, _row in differing.differences]
        assert found == ["live"] * live + ["rebuilt"] * rebuilt, tampering
        assert differing.live_rows - differing.rebuilt_rows == live - rebuilt
        await rebuild(own_database, projection, {}, ignore)
        assert (await verify(own_database, projection, ignore)).equal
    await assert_as_the_reference(own_database)
    assert not await leftovers(own_database)


async def test_rows_that_are_there_twice_count_twice(own_database: Connection) -> None:
    await append_traffic(own_database, 100)
    await fold_all(own_database)
    await own_database.execute("""
        SELECT begin_filling('releases', 'verify');
        ALTER TABLE releases DROP CONSTRAINT releases_pkey;
        INSERT INTO releases SELECT * FROM releases LIMIT 1;
    """)
    [table] = [table for table in (await verify(own_database, "releases", ignore)).tables if not table.equal]
    assert table.name == "releases"
    assert [where for where, _row in table.differences] == ["live"]


async def test_few_of_many_differences_are_told(own_database: Connection) -> None:
    await append_traffic(own_database, 400)
    await fold_all(own_database)
    await own_database.execute("UPDATE popularity_views SET found = found + 1")
    [returns, series, views, visitors] = (await verify(own_database, "popularity", ignore)).tables
    assert [len(table.differences) for table in (returns, series, views, visitors)] == [0, 0, 20, 0]


@asynccontextmanager
async def busy(url: str) -> AsyncIterator[None]:
    """Have events come, and folded, all the time."""
    writer = await connect(url, application="tests")
    end = asyncio.Event()
    try:
        async with open_pool(url, role="usage_server", application="tests", size=6) as pool:
            runners = Runners(pool, lambda: None)
            running = asyncio.create_task(runners.run())

            async def write() -> None:
                while not end.is_set():
                    await append_traffic(writer, 10)
                    runners.wake()

            writing = asyncio.create_task(write())
            try:
                yield
            finally:
                end.set()
                await writing
                running.cancel()
                await asyncio.wait([running])
    finally:
        await writer.close()


async def test_events_that_come_meanwhile_make_no_difference(own_database: Connection, own_database_url: str) -> None:
    async with busy(own_database_url):
        verdicts = [await verify(own_database, projection, ignore) for projection in PROJECTIONS * 3]
        assert all(verdict.equal for verdict in verdicts)
        assert max(verdict.position for verdict in verdicts) > 0
        at = await own_database.fetchval("SELECT min(position) FROM projections")

        async def moved() -> bool:
            return bool(await own_database.fetchval("SELECT min(position) > $1 FROM projections", at))

        await eventually(moved, "what is live is folded on")


async def test_the_live_one_may_be_behind(own_database: Connection) -> None:
    """Nothing folds it just now: they are compared where it is."""
    await append_traffic(own_database, 100)
    await own_database.execute("SELECT advance_projection('sessions', 50)")
    await append_traffic(own_database, 100)
    verdict = await verify(own_database, "sessions", ignore)
    assert (verdict.equal, verdict.position) == (True, 50)


async def test_it_goes_on_where_it_was_interrupted(own_database: Connection) -> None:
    await append_traffic(own_database, 100)
    await fold_all(own_database)
    await own_database.execute(
        "SELECT begin_filling('sessions', 'verify'), advance_projection('sessions', 30, 'verify')"
    )
    at: list[int] = []

    def note(done: int) -> None:
        at.append(done)

    assert (await verify(own_database, "sessions", note)).equal
    assert at == [100]
    assert not await leftovers(own_database)


async def test_a_verification_of_what_was_live_before_is_not_gone_on_with(own_database: Connection) -> None:
    await append_traffic(own_database, 100)
    await fold_all(own_database)
    await own_database.execute(
        "SELECT begin_filling('sessions', 'verify'), advance_projection('sessions', 30, 'verify')"
    )
    await rebuild(own_database, "sessions", {"gap_minutes": 45}, ignore)
    assert (await verify(own_database, "sessions", ignore)).equal


async def test_two_at_once(own_database: Connection, own_database_url: str) -> None:
    """Both are right, or one says that the other was quicker."""
    await append_traffic(own_database, 300)
    await fold_all(own_database)
    other = await connect(own_database_url, application="tests")
    try:
        found = await asyncio.gather(
            *(verify(connection, "sessions", ignore) for connection in (own_database, other)), return_exceptions=True
        )
    finally:
        await other.close()
    verdicts = [verdict for verdict in found if isinstance(verdict, Verdict)]
    assert verdicts
    assert all(verdict.equal for verdict in verdicts)
    assert all(isinstance(other, Verdict | MaintenanceError) for other in found)
    await eventually(partial(nothing_is_left, own_database), "nothing is left")


async def nothing_is_left(database: Connection) -> bool:
    return not await leftovers(database)


async def test_an_unknown_projection_is_told(own_database: Connection) -> None:
    with pytest.raises(
        MaintenanceError,
        match="no projection nothing; there are build_costs, catalogue, "
        "journeys, popularity, releases, sessions, timeseries",
    ):
        await verify(own_database, "nothing", ignore)
