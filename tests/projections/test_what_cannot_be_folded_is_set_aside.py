"""An event that a projection cannot fold is set aside by itself: the projection goes on, says so, and may try again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.projections.test_projections_equal_a_reference import begin, empty, events, fold, swap
from tests.support.poison import POISONS, dead_letters, put_in
from tests.support.servers import Connection, JsonObject, event, rounds
from tests.support.traffic import (
    PROJECTIONS,
    append_traffic,
    assert_as_the_reference,
    fold_all,
    ignore,
    leftovers,
    records,
)
from usage_service.ingest.appending import append
from usage_service.projections.rebuilding import add, discard, rebuild, retry, verify
from usage_service.projections.runner import Folder, UnfoldableError

EXAMPLES = rounds(3)
FOUND = POISONS[0]
# What holds for a part of the events until it is mended, in each projection.
REFUSED = {
    "popularity_series": "probe <> 'slow_ms'",
    "popularity_views": "missing < 2",
    "catalogue": "probe <> 'slow_ms'",
    "journey_events": "name <> 'slow_ms'",
    "sessions": "NOT 'slow_ms' = ANY (probes)",
    "session_counts": "sessions < 2",
    "probe_hours": "probe <> 'slow_ms'",
    "releases": "version <> 121",
}
SHARES = """
CREATE TABLE shares (position bigint PRIMARY KEY, share float8 NOT NULL, before bigint);
CREATE FUNCTION fold_shares(after_position bigint, to_position bigint) RETURNS void LANGUAGE sql AS $$
    INSERT INTO shares
    SELECT position, 100 / (data ->> 'parts')::integer, (SELECT max(s.position) FROM shares s)
    FROM event_log WHERE position > after_position AND position <= to_position AND type = 'x_shared'
$$;
"""
quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@given(
    log=st.lists(st.one_of(events(), st.integers(0, len(POISONS) - 1)), min_size=3, max_size=25),
    chance=st.randoms(use_true_random=False),
)
@quick
async def test_rows_are_those_of_the_log_without_them(
    own_database: Connection, log: list[JsonObject | int], chance: random.Random
) -> None:
    """Wherever they are: live, rebuilt, verified, in batches of any size."""
    await empty(own_database, 30)
    await own_database.execute("TRUNCATE dead_letters")
    expected: dict[str, list[int]] = {projection: [] for projection in PROJECTIONS}
    for item in log:
        if isinstance(item, int):
            position = await put_in(own_database, POISONS[item])
            for projection in POISONS[item].projections:
                expected[projection].append(position)
        else:
            await append(own_database, records([item | {"event_id": str(uuid4())}]))
    for projection in PROJECTIONS:
        await fold(own_database, projection, "live", chance.randint(1, 15))
    assert {projection: await dead_letters(own_database, projection) for projection in PROJECTIONS} == expected
    await assert_as_the_reference(own_database)
    for projection in PROJECTIONS:
        verdict = await verify(own_database, projection, ignore)
        assert (verdict.equal, verdict.set_aside) == (True, len(expected[projection]))
        await begin(own_database, projection, 30)
        await fold(own_database, projection, "rebuild", chance.randint(1, 15))
        assert await swap(own_database, projection, 0) is not None
    assert {projection: await dead_letters(own_database, projection) for projection in PROJECTIONS} == expected
    await assert_as_the_reference(own_database)


@given(
    log=st.lists(events(), min_size=3, max_size=30, unique_by=lambda item: item["event_id"]),
    chance=st.randoms(use_true_random=False),
)
@quick
async def test_taken_up_again_they_are_as_if_folded_in_their_order(
    own_database: Connection, log: list[JsonObject], chance: random.Random
) -> None:
    await empty(own_database, 30)
    await own_database.execute("TRUNCATE dead_letters")
    for table, check in REFUSED.items():
        await own_database.execute(f"ALTER TABLE {table} ADD CONSTRAINT refused CHECK ({check})")
    await append(own_database, records(log))
    for projection in PROJECTIONS:
        await fold(own_database, projection, "live", chance.randint(1, 15))
    await own_database.execute(
        "UPDATE projections SET changed_at = last_position()"
    )  # as where a later event has changed rows
    aside = {projection: await dead_letters(own_database, projection) for projection in PROJECTIONS}
    for table in REFUSED:
        await own_database.execute(f"ALTER TABLE {table} DROP CONSTRAINT refused")
    for projection in PROJECTIONS:
        before = await own_database.fetchval(GENERATION, projection)
        assert await retry(own_database, projection, ignore) == (len(aside[projection]), 0)
        assert (await own_database.fetchval(GENERATION, projection) != before) == bool(aside[projection])
    await assert_as_the_reference(own_database)
    for projection in PROJECTIONS:
        assert (await verify(own_database, projection, ignore)).equal


GENERATION = "SELECT generation FROM projections WHERE name = $1 AND stage = 'live'"


@pytest.mark.parametrize("batch", [1, 4, 5, 1000])
async def test_several_in_a_batch_and_at_its_edges(own_database: Connection, batch: int) -> None:
    aside = []
    for neighbours in (0, 3, 0, 2, 5, 0):
        if neighbours:
            await append_traffic(own_database, neighbours)
        aside.append(await put_in(own_database, FOUND))
    await fold(own_database, "popularity", "live", batch)
    assert await dead_letters(own_database, "popularity") == aside
    row = await own_database.fetchrow("SELECT * FROM projection_status WHERE name = 'popularity'")
    assert row is not None
    assert (row["behind"], row["error"], row["set_aside"]) == (0, None, 6)
    assert [letter["position"] for letter in row["dead_letters"]] == aside
    assert row["dead_letters"][0]["error"] == "cannot cast jsonb string to type boolean"
    await fold_all(own_database)
    await assert_as_the_reference(own_database)


async def test_large_batches_too(own_database: Connection) -> None:
    """Which are planned otherwise than small ones. This one is mostly gaps; each part before the last changes rows."""
    for end in (0, 10_000, 25_000, 35_000, 40_000):
        await own_database.execute("SELECT setval('event_position', $1)", end + 1)
        await append_traffic(own_database, 20)
    aside = await put_in(own_database, FOUND)
    for projection in ("popularity", "timeseries"):
        row = await own_database.fetchrow("SELECT * FROM advance_projection($1, 100000)", projection)
        assert row is not None
        assert (row["now_at"], row["set_aside"]) == (aside, 1)
        assert await dead_letters(own_database, projection) == [aside]
    await fold_all(own_database)
    await assert_as_the_reference(own_database)


async def test_a_rebuild_goes_on_too_and_counts_them(own_database: Connection) -> None:
    await append_traffic(own_database, 20)
    await put_in(own_database, FOUND)
    await append_traffic(own_database, 20)
    await put_in(own_database, FOUND)
    assert await rebuild(own_database, "popularity", {}, ignore) == (42, 2)
    await fold_all(own_database)
    await assert_as_the_reference(own_database)
    assert not await leftovers(own_database)


async def test_a_verification_leaves_out_what_the_live_one_did(own_database: Connection) -> None:
    """Also where it could be folded now; and takes up what that takes up meanwhile."""
    await own_database.execute("ALTER TABLE releases ADD CONSTRAINT refused CHECK (version <> 7)")
    await append(own_database, records([released(6), released(7), released(8)]))
    await fold_all(own_database)
    await own_database.execute("ALTER TABLE releases DROP CONSTRAINT refused")
    verdict = await verify(own_database, "releases", ignore)
    assert (verdict.equal, verdict.set_aside) == (True, 1)

    await own_database.execute("SELECT begin_filling('releases', 'verify')")
    await fold(own_database, "releases", "verify", 100)
    assert await dead_letters(own_database, "releases", "verify") == [2]
    assert await retry(own_database, "releases", ignore) == (1, 0)
    verdict = await verify(own_database, "releases", ignore)
    assert (verdict.equal, verdict.set_aside) == (True, 0)
    await assert_as_the_reference(own_database)


async def test_what_only_the_live_one_could_fold_differs(own_database: Connection) -> None:
    await append(own_database, records([released(6), released(7)]))
    await fold_all(own_database)
    await own_database.execute("""
        SELECT begin_filling('releases', 'verify');
        ALTER TABLE verify_releases.releases ADD CONSTRAINT refused CHECK (version <> 7)
    """)
    assert not (await verify(own_database, "releases", ignore)).equal


def released(version: int) -> JsonObject:
    return event("release_published", visitor=None, channel="nightly", data={"version": version})


# What a database says when it is full, ending, busy, read-only or too slow; or when the fold itself is wrong.
NOT_THEIRS = "53100 53200 57P01 57014 40001 40P01 55P03 25006 58030 XX000 42P01 42501"


async def test_faults_of_the_database_set_nothing_aside(own_database: Connection) -> None:
    await append(own_database, records([released(7)]))
    for sqlstate in NOT_THEIRS.split():
        await own_database.execute(f"""
            CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
                BEGIN RAISE EXCEPTION USING ERRCODE = '{sqlstate}', MESSAGE = 'not its fault'; END $$;
            CREATE OR REPLACE TRIGGER fail BEFORE INSERT ON releases FOR EACH ROW EXECUTE FUNCTION fail();
        """)
        with pytest.raises(asyncpg.PostgresError, match="not its fault") as raised:
            await own_database.execute("SELECT advance_projection('releases', 10)")
        assert raised.value.sqlstate == sqlstate
        assert not await dead_letters(own_database, "releases")
        assert await own_database.fetchval("SELECT position FROM projections WHERE name = 'releases'") == 0
    await own_database.execute("DROP TRIGGER fail ON releases")
    await fold_all(own_database)
    await assert_as_the_reference(own_database)


async def test_a_fold_at_fault_stops_rather_than_setting_all_aside(own_database: Connection) -> None:
    await own_database.execute(MOST.format(5))
    aside = []
    for _ in range(7):
        await append_traffic(own_database, 2)
        aside.append(await put_in(own_database, FOUND))
    with pytest.raises(UnfoldableError, match="5 events are set aside already, so the fold seems to be at fault: cann"):
        await fold_to_the_end(own_database, "popularity")
    assert await dead_letters(own_database, "popularity") == aside[:5]
    row = await own_database.fetchrow("SELECT * FROM projection_status WHERE name = 'popularity'")
    assert row is not None
    assert (row["position"], row["failed_after"], row["set_aside"]) == (aside[5] - 1, aside[5] - 1, 5)
    with pytest.raises(UnfoldableError, match="at fault"):
        await rebuild(own_database, "popularity", {}, ignore)

    assert await discard(own_database, "popularity") == 5
    await fold_to_the_end(own_database, "popularity")
    assert await dead_letters(own_database, "popularity") == aside[5:]


async def fold_to_the_end(database: Connection, projection: str) -> None:
    folder = Folder(projection)
    while (fold := await folder.fold(database)).now_at < fold.log_end:
        pass


MOST = """
CREATE OR REPLACE FUNCTION most_dead_letters() RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$ SELECT {} $$
"""


async def test_a_fold_that_fails_without_an_event_stops(own_database: Connection) -> None:
    await append_traffic(own_database, 5)
    await own_database.execute("SELECT setval('event_position', 20)")
    await append_traffic(own_database, 1)
    await own_database.execute("""
        CREATE OR REPLACE FUNCTION fold_releases(after_position bigint, to_position bigint) RETURNS bigint
        LANGUAGE sql AS $$ SELECT 1 / (to_position - to_position) $$
    """)
    with pytest.raises(UnfoldableError, match="after position 5: the fold fails without an event: division by zero"):
        await fold_to_the_end(own_database, "releases")


async def test_one_that_was_added_is_rebuilt(own_database: Connection, tmp_path: Path) -> None:
    """Its rows may depend on the order of positions."""
    shared: Any = [event("x_shared", data={"parts": parts}) for parts in (4, 5)]
    await append(own_database, records(shared))
    await add(own_database, tmp_path / "shares.sql", SHARES, ignore)
    await append(own_database, records([event("x_shared", data={"parts": 0}), event("x_shared", data={"parts": 10})]))
    folder = Folder("shares")
    assert (await folder.fold(own_database)).set_aside == 1
    assert await dead_letters(own_database, "shares") == [3]
    assert (await verify(own_database, "shares", ignore)).set_aside == 1
    assert await retry(own_database, "shares", ignore) == (0, 1)
    with pytest.raises(asyncpg.PostgresError, match="may depend on the order"):
        await own_database.execute("SELECT retry_dead_letters('shares')")
    rows = await own_database.fetch("SELECT position, share FROM shares.shares ORDER BY 1")
    assert [tuple(row) for row in rows] == [(1, 25), (2, 20), (4, 10)]
    assert not await leftovers(own_database)


async def test_what_is_set_aside_is_not_dropped_from_the_log(own_database: Connection) -> None:
    await put_in(own_database, FOUND)
    await fold_all(own_database)
    dropped = "SELECT drop_events(ARRAY(SELECT e FROM event_log e))"
    with pytest.raises(asyncpg.PostgresError, match="1 of these events are set aside by projection"):
        await own_database.fetchval(dropped)
    for projection in FOUND.projections:
        assert await discard(own_database, projection) == 1
    assert await own_database.fetchval(dropped) == 1


async def test_nothing_of_a_visitor_is_kept_with_it(own_database: Connection) -> None:
    """So that erasing somebody has nothing to do there."""
    await put_in(own_database, FOUND)
    await fold_all(own_database)
    visitor = await own_database.fetchval("SELECT visitor::text FROM event_log")
    kept = await own_database.fetchval("SELECT string_agg(d::text, ' ') FROM dead_letters d")
    assert FOUND.type not in kept
    assert visitor not in kept


async def test_only_the_owner_takes_them_up_or_gives_them_up(own_database: Connection) -> None:
    rows = await own_database.fetch("""
        SELECT r, has_table_privilege(r, 'dead_letters', 'SELECT') AS may_read,
               has_table_privilege(r, 'dead_letters', 'INSERT, UPDATE, DELETE, TRUNCATE') AS may_change,
               (SELECT bool_or(has_function_privilege(r, p.oid, 'EXECUTE')) FROM pg_proc p WHERE p.proname IN (
                   'set_aside', 'retry_dead_letters', 'refold_dead_letters', 'discard_dead_letters', 'fold_range',
                   'fold_ranges')) AS may_call
        FROM unnest(ARRAY['usage_server', 'usage_reader', 'usage_builder', 'usage_projections']) r
    """)
    assert [tuple(row) for row in rows] == [
        ("usage_server", True, False, False),
        ("usage_reader", True, False, False),
        ("usage_builder", False, False, False),
        ("usage_projections", False, False, False),
    ]
