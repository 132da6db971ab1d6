"""Readers see one consistent state of a projection and never an error, however often it is rebuilt and swapped."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from uuid import UUID

import pytest

from tests.support.servers import Connection, eventually
from tests.support.sessions import waiting
from tests.support.traffic import PROJECTIONS, append_traffic, assert_as_the_reference, fold_all, ignore, leftovers
from usage_service.projections.rebuilding import MaintenanceError, abandon, rebuild
from usage_service.projections.runner import Runners, UnfoldableError
from usage_service.projections.state import Revision, Snapshot, snapshot
from usage_service.shared.postgres import Pool, connect, open_pool

SWAPS = 8
READ_SECONDS = 80
VIEWS = """
SELECT (SELECT coalesce(sum(found + missing), 0) FROM popularity_views WHERE days = 1) AS projected,
       (SELECT count(*) FROM event_log WHERE type = 'probe_viewed' AND position <= $1) AS logged
"""
VISITORS = """
SELECT (SELECT count(*) FROM popularity_visitors) AS projected,
       (SELECT count(DISTINCT (product, utc_day(occurred_at), probe, coalesce(channel, ''),
                               data @> '{"bot": true}', visitor))
        FROM event_log WHERE type = 'probe_viewed' AND visitor IS NOT NULL AND position <= $1) AS logged
"""
SESSION_EVENTS = """
SELECT (SELECT coalesce(sum(events), 0) FROM sessions) AS projected,
       (SELECT count(*) FROM event_log WHERE visitor IS NOT NULL AND position <= $1
        AND type IN ('page_viewed', 'probe_viewed', 'control_changed', 'link_followed', 'x_mine')) AS logged
"""


@asynccontextmanager
async def owners(url: str, number: int) -> AsyncIterator[list[Connection]]:
    async with AsyncExitStack() as stack:
        connections = []
        for _ in range(number):
            connections.append(await connect(url, application="tests"))
            stack.push_async_callback(connections[-1].close)
        yield list(connections)


async def read_until(
    end: asyncio.Event, pool: Pool, check: Callable[[Snapshot], Awaitable[None]], reads: list[int], reader: int
) -> None:
    """Read again and again, and count how often. Fail when the position goes back."""
    position = 0
    while not end.is_set():
        async with snapshot(pool, "popularity", "sessions") as view:
            assert view.states.position >= position
            position = view.states.position
        async with snapshot(pool, "popularity") as view:
            await check(view)
            await equal(view, VIEWS)
            await equal(view, VISITORS)
        async with snapshot(pool, "sessions") as view:
            await equal(view, SESSION_EVENTS)
        reads[reader] += 1


async def equal(view: Snapshot, question: str) -> None:
    row = await view.connection.fetchrow(question, view.states.position)
    assert row is not None
    assert row["projected"] == row["logged"], (question, view.states.position)


def never_back() -> Callable[[Snapshot], Awaitable[None]]:
    """Check that positions only rise, and what has the same revisions has the same rows."""
    last = 0
    seen: dict[tuple[Revision, ...], int] = {}

    async def check(view: Snapshot) -> None:
        nonlocal last
        assert view.states.position >= last
        last = view.states.position
        views = await view.connection.fetchval("SELECT sum(found + missing) FROM popularity_views WHERE days = 1")
        assert seen.setdefault(view.states.revisions, views) == views

    return check


async def rebuild_often(connection: Connection, projection: str, reads: list[int]) -> None:
    """Swap so often, and on until every reader has read as often meanwhile, however busy the machine is."""
    deadline = time.monotonic() + READ_SECONDS
    swaps = 0
    while swaps < SWAPS or min(reads) < SWAPS:
        await rebuild(connection, projection, {}, ignore)
        swaps += 1
        assert time.monotonic() < deadline, f"{reads} reads during {swaps} swaps"


async def write_until(end: asyncio.Event, connection: Connection, runners: Runners) -> None:
    while not end.is_set():
        await append_traffic(connection, 20)
        runners.wake()


async def test_readers_never_see_half(own_database_url: str) -> None:
    async with (
        owners(own_database_url, 3) as [writer, first, second],
        open_pool(own_database_url, role="usage_server", application="tests", size=6) as server,
        open_pool(own_database_url, role="usage_reader", application="tests", size=6) as analysts,
    ):
        await append_traffic(writer, 500)
        runners = Runners(server, lambda: None)
        running = asyncio.create_task(runners.run())
        end = asyncio.Event()
        reads = [0, 0, 0]
        reading = [
            asyncio.create_task(read_until(end, pool, never_back(), reads, reader))
            for reader, pool in enumerate((server, analysts, analysts))
        ]
        writing = asyncio.create_task(write_until(end, writer, runners))
        try:
            await asyncio.gather(rebuild_often(first, "popularity", reads), rebuild_often(second, "sessions", reads))
        finally:
            end.set()
            await asyncio.gather(*reading)
            await writing
            running.cancel()
            await asyncio.wait([running])
        assert min(reads) >= SWAPS
        await fold_all(writer)
        await assert_as_the_reference(writer)
        assert not await leftovers(writer)


async def test_two_who_rebuild_at_once_swap_once(own_database: Connection, own_database_url: str) -> None:
    await append_traffic(own_database, 500)
    await fold_all(own_database)
    async with owners(own_database_url, 3) as [first, second, holder]:
        begun = await holder.fetchval("SELECT begin_filling('sessions', 'rebuild')")  # what is not there cannot be held
        holding = holder.transaction()
        await holding.start()
        assert await holder.fetchval("SELECT lock_projection('sessions', 'rebuild')")
        both = [asyncio.create_task(rebuild(connection, "sessions", {}, ignore)) for connection in (first, second)]
        await eventually(partial(both_at_it, own_database), "both fill it")
        await holding.rollback()
        assert await asyncio.gather(*both) == [(500, 0), (500, 0)]
    live = await own_database.fetchval("SELECT generation FROM projections WHERE name = 'sessions' AND stage = 'live'")
    assert live == begun
    await assert_as_the_reference(own_database)
    assert not await leftovers(own_database)


async def both_at_it(database: Connection) -> bool:
    """Return whether both have begun, and try to fold or to swap."""
    tried = await database.fetchval("""
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND query ~ '(advance|swap)_projection[(]' AND pid <> pg_backend_pid()
    """)
    return bool(tried == 2)


@pytest.mark.parametrize("stage", ["live", "rebuild"])
async def test_what_is_being_folded_is_not_swapped(own_database: Connection, own_database_url: str, stage: str) -> None:
    """Nor compared: both stand still, or it has to be tried again."""
    await append_traffic(own_database, 100)
    await own_database.execute("SELECT begin_filling('sessions', 'rebuild'), begin_filling('sessions', 'verify')")
    async with owners(own_database_url, 1) as [other]:
        folding = other.transaction()
        await folding.start()
        await other.execute("SELECT advance_projection('sessions', 50, $1)", stage)
        assert await own_database.fetchval("SELECT swap_projection('sessions', 1000)") is None
        assert stage != "live" or await own_database.fetchval("SELECT align_projection('sessions')") is None
        moved = "SELECT now_at - was_at FROM advance_projection('sessions', 50, $1)"
        assert await own_database.fetchval(moved, stage) == 0
        await folding.commit()
    assert await own_database.fetchval("SELECT swap_projection('sessions', 1000)") == 50


async def test_what_is_given_up_meanwhile_is_told(own_database: Connection, own_database_url: str) -> None:
    await append_traffic(own_database, 100)
    async with owners(own_database_url, 2) as [builder, holder]:
        holding = holder.transaction()
        await holding.start()
        await holder.execute("LOCK TABLE sessions IN ACCESS SHARE MODE")
        rebuilding = asyncio.create_task(rebuild(builder, "sessions", {}, ignore))
        filled = "SELECT EXISTS (SELECT FROM projections WHERE stage = 'rebuild' AND position = 100)"

        async def is_filled() -> bool:
            return bool(await own_database.fetchval(filled))

        await eventually(is_filled, "it is filled")
        await eventually(partial(abandon, own_database, "sessions", "rebuild"), "it is dropped")
        with pytest.raises(MaintenanceError, match="dropped meanwhile"):
            await rebuilding
        await holding.rollback()
    assert not await leftovers(own_database)


async def test_a_reader_who_takes_long_delays_the_swap_and_nobody_else(
    own_database: Connection, own_database_url: str
) -> None:
    await append_traffic(own_database, 100)
    await fold_all(own_database)
    before = await generation(own_database)
    async with (
        owners(own_database_url, 1) as [builder],
        open_pool(own_database_url, role="usage_reader", application="tests", size=2) as pool,
    ):
        async with snapshot(pool, "sessions") as slow:
            rebuilding = asyncio.create_task(rebuild(builder, "sessions", {}, ignore))
            await eventually(partial(wants_the_table, own_database), "the swap waits")
            async with snapshot(pool, "sessions") as quick:  # which fails where it has to wait for the swap
                assert await quick.connection.fetchval("SELECT count(*) FROM sessions")
            assert await generation(own_database) == before
            await equal(slow, SESSION_EVENTS)
        await rebuilding
        async with snapshot(pool, "sessions") as view:
            await equal(view, SESSION_EVENTS)
    assert await generation(own_database) != before


async def generation(database: Connection) -> UUID:
    found: UUID = await database.fetchval(
        "SELECT generation FROM projections WHERE name = 'sessions' AND stage = 'live'"
    )
    return found


async def wants_the_table(database: Connection) -> bool:
    return await waiting(database, "relation", statement="%swap_projection%") > 0


async def test_a_fold_that_cannot_go_on_is_told_rather_than_swapped(own_database: Connection) -> None:
    """Even when it comes after the rebuild was filled."""
    await append_traffic(own_database, 50)
    await own_database.execute("""
        SELECT begin_filling('releases', 'rebuild');
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF (SELECT max(position) FROM event_log) > 50 THEN RAISE undefined_table USING MESSAGE = 'no more'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON rebuild_releases.releases
            FOR EACH ROW EXECUTE FUNCTION refuse();
    """)
    await fold_all(own_database)
    await own_database.execute("SELECT advance_projection('releases', 1000, 'rebuild')")
    await append_traffic(own_database, 100)
    await fold_all(own_database)
    with pytest.raises(UnfoldableError, match="no more"):
        await rebuild(own_database, "releases", {}, ignore)
    await assert_as_the_reference(own_database)


async def test_a_view_of_the_analysts_is_not_dropped(own_database: Connection) -> None:
    await append_traffic(own_database, 50)
    await own_database.execute("CREATE VIEW long_sessions AS SELECT * FROM sessions WHERE events > 10")
    with pytest.raises(MaintenanceError, match="long_sessions"):
        await rebuild(own_database, "sessions", {}, ignore)
    await own_database.execute("DROP VIEW long_sessions")
    await rebuild(own_database, "sessions", {}, ignore)
    assert not await leftovers(own_database)


async def test_roles_can_do_the_same_after_a_swap(own_database: Connection, own_database_url: str) -> None:
    await append_traffic(own_database, 200)
    await fold_all(own_database)
    before = await rights(own_database)
    await own_database.execute(
        "INSERT INTO catalogue (product, probe, metric_type, pings) VALUES ('fog', 'a', 'counter', '{}')"
    )
    server = await connect(own_database_url, role="usage_server", application="tests")
    try:
        assert await server.fetchval("SELECT outcome FROM request_build('fog', 'nightly', 'a')") == "created"
        for projection in PROJECTIONS:
            await rebuild(own_database, projection, {}, ignore)
        # It was in no event, and so is gone: the function sees the new table on the connection where it saw the old.
        assert await server.fetchval("SELECT outcome FROM request_build('fog', 'nightly', 'a')") == "unknown"
        assert await server.fetchval("SELECT outcome FROM request_build('fog', 'nightly', 'gc_ms')") != "unknown"
    finally:
        await server.close()
    assert await rights(own_database) == before
    assert {right.split()[0] for rows in before for right in rows[1:]} == {"SELECT"}


async def rights(database: Connection) -> list[tuple[str, ...]]:
    """Return what the programs' roles may do with each table and view of the projections."""
    rows = await database.fetch("""
        SELECT c.relname, array_agg(a.privilege_type || ' ' || a.grantee::regrole ORDER BY a.grantee::regrole::text)
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relname = ANY (ARRAY(SELECT unnest(tables) FROM projections) || '{projections,projection_status}')
          AND c.relnamespace = 'public'::regnamespace AND a.grantee <> c.relowner
        GROUP BY 1 ORDER BY 1
    """)
    tables = await database.fetchval("SELECT count(*) FROM (SELECT unnest(tables) FROM projections) t")
    assert len(rows) == tables + 2
    assert all(len(row[1]) == 4 for row in rows)
    return [(row[0], *row[1]) for row in rows]


async def test_the_server_may_fold_and_nothing_else_of_it(database: Connection) -> None:
    rows = await database.fetch("""
        SELECT p.proname FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace AND has_function_privilege('usage_server', p.oid, 'EXECUTE')
          AND p.proname ~ 'project|fill|fold|swap|hash_table|differing|move_objects'
          AND p.proname !~ 'policy'  -- of hot lists, which the server makes itself
    """)
    assert {row["proname"] for row in rows} == {"advance_projection", "fail_projection"}
