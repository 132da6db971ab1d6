"""A file of SQL becomes a projection: filled from history, kept live, replaced after a change, dropped."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.conftest import SECRET, Start
from tests.support.servers import Connection, event, eventually, post
from tests.support.traffic import PROJECTIONS, append_traffic, assert_as_the_reference, fold_all, ignore, leftovers
from usage_service.projections.rebuilding import Filled, MaintenanceError, add, drop, rebuild, verify
from usage_service.shared.postgres import connect
from usage_service.shared.settings import ServerSettings

TYPES = """-- How many events there are of each type.
CREATE TABLE by_type (
    t      text   PRIMARY KEY,
    number bigint NOT NULL
);

CREATE FUNCTION fold_types(after_position bigint, to_position bigint) RETURNS bigint LANGUAGE sql AS $$
    WITH written AS (
        INSERT INTO by_type AS b
        SELECT type, count(*) FROM event_log WHERE position > after_position AND position <= to_position GROUP BY 1
        ON CONFLICT (t) DO UPDATE SET number = b.number + excluded.number
        RETURNING 1
    )
    SELECT count(*) FROM written
$$;
"""
DOUBLED = TYPES.replace("type, count(*)", "type, 2 * count(*)")
COUNTED = "SELECT type, count(*) FROM event_log GROUP BY 1 ORDER BY 1"
PROJECTED = "SELECT t, number FROM types.by_type ORDER BY 1"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "types.sql"


async def is_right(database: Connection, times: int = 1) -> bool:
    """Return whether the projection is what the log holds."""
    counted = [(row[0], times * row[1]) for row in await database.fetch(COUNTED)]
    return counted == [tuple(row) for row in await database.fetch(PROJECTED)]


async def version(database: Connection) -> int:
    found: int = await database.fetchval("SELECT version FROM projections WHERE name = 'types' AND stage = 'live'")
    return found


async def test_it_is_filled_kept_live_replaced_and_dropped(
    own_database: Connection, own_database_url: str, start: Start, path: Path
) -> None:
    await append_traffic(own_database, 300)
    client = await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))
    assert await add(own_database, path, TYPES, ignore) == (300, 0)
    assert await is_right(own_database)
    assert await version(own_database) == 1
    await post(client, event("x_new"), event("page_viewed"))
    await eventually(partial(is_right, own_database), "the running server folds it, though it was started before")

    await add(own_database, path, TYPES, ignore)
    assert await version(own_database) == 1
    await add(own_database, path, DOUBLED, ignore)
    assert await version(own_database) == 2
    assert await is_right(own_database, 2)
    await post(client, event("x_new"))
    await eventually(partial(is_right, own_database, 2), "the running server folds the new version")
    assert (await verify(own_database, "types", ignore)).equal
    await rebuild(own_database, "types", {}, ignore)
    assert await is_right(own_database, 2)

    await drop(own_database, "types")
    assert await own_database.fetchval("SELECT to_regnamespace('types')") is None
    assert not await leftovers(own_database)
    await add(own_database, path, TYPES, ignore)
    await post(client, event("x_new"))
    await eventually(partial(is_right, own_database), "it may come back")
    with pytest.raises(MaintenanceError, match="no projection sessions was added"):
        await drop(own_database, "sessions")
    with pytest.raises(MaintenanceError, match="no projection nothing was added"):
        await drop(own_database, "nothing")


async def test_it_may_be_read_and_not_folded_by_analysts(own_database: Connection, path: Path) -> None:
    await append_traffic(own_database, 100)
    for statements in (TYPES, DOUBLED):
        await add(own_database, path, statements, ignore)
        await own_database.execute("SET ROLE usage_reader")
        assert await own_database.fetch(PROJECTED)
        for refused in ("SELECT types.fold_types(0, 100)", "DELETE FROM types.by_type", "CREATE TABLE types.mine ()"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await own_database.execute(refused)
        await own_database.execute("RESET ROLE")


NO_FOLD = r"types\.sql: the statements create no function fold_types"
NO_TRANSACTIONS = r"types\.sql: .*transaction commands"
BROKEN = [
    (TYPES.replace("PRIMARY KEY", "PRIMARY KEYS"), r"types\.sql, line 3: syntax error"),
    (TYPES.replace("FROM event_log", "FROM event_logs"), r'types\.sql, line 10: relation "event_logs" does not exist'),
    (TYPES.replace("number bigint", "number bigints"), r'types\.sql, line 4: type "bigints" does not exist'),
    (TYPES.replace("fold_types", "fold_type"), NO_FOLD),
    (TYPES.replace("(after_position bigint", "(after_position integer"), NO_FOLD),
    ("", NO_FOLD),
    ("CREATE FUNCTION fold_types(a bigint, b bigint) RETURNS void LANGUAGE sql AS ''", "create no table"),
    (TYPES + TYPES, r'types\.sql: relation "by_type" already exists'),
    ("COMMIT;" + TYPES, NO_TRANSACTIONS),
    (TYPES + "COMMIT;", NO_TRANSACTIONS),
    ("BEGIN;" + TYPES + "END;", NO_TRANSACTIONS),
]
REFUSED = {
    "INSERT INTO event_log SELECT * FROM event_log": "permission denied for table event_log",
    "UPDATE public.catalogue SET probe = ''": "permission denied for table catalogue",
    "DELETE FROM visitor_keys": "permission denied for table visitor_keys",
    "UPDATE projections SET position = 0": "permission denied for table projections",
    "DROP TABLE public.sessions": "must be owner of table sessions",
    "CREATE TABLE public.mine ()": "permission denied for schema public",
    "SELECT append_own_event('x', '', '', '', '', '{}')": "permission denied for function",
}


async def test_what_is_wrong_is_named_and_nothing_left(own_database: Connection, path: Path) -> None:
    await append_traffic(own_database, 50)
    broken = BROKEN + [("\n".join((TYPES, statement)), why) for statement, why in REFUSED.items()]
    for statements, why in broken:
        with pytest.raises(MaintenanceError, match=why):
            await add(own_database, path, statements, ignore)
        assert not await leftovers(own_database), statements
    assert await own_database.fetchval("SELECT current_user") != "usage_projections"
    await add(own_database, path, TYPES, ignore)
    for statements, why in broken:
        with pytest.raises(MaintenanceError, match=why):
            await add(own_database, path, statements, ignore)
    assert await is_right(own_database)
    assert await version(own_database) == 1


NAMES = [
    "sessions", "catalogue", "public", "pg_catalog", "pg_mine", "information_schema", "taken", "rebuild_sessions",
    "verify_x", "Types", "my-types", "my types", "2types", "_types", "", "töne", "types;", 'a"b', "a" * 42,
]  # fmt: skip


async def test_names_that_mean_something_else_are_refused(own_database: Connection, tmp_path: Path) -> None:
    await own_database.execute("CREATE SCHEMA taken")
    for name in NAMES:
        statements = TYPES.replace("fold_types", f'"fold_{name}"'.replace('a"b', "a"))
        with pytest.raises(MaintenanceError, match=r"a projection cannot be named .* \(take another name"):
            await add(own_database, tmp_path / f"{name}.sql", statements, ignore)
    for name in ("select", "user", "types_2", "a" * 41):
        await add(own_database, tmp_path / f"{name}.sql", TYPES.replace("fold_types", f"fold_{name}"), ignore)
        assert (await verify(own_database, name, ignore)).equal
    assert not await leftovers(own_database)


FORBIDDEN = [
    "INSERT INTO event_log SELECT * FROM event_log",
    "UPDATE event_log SET type = 'x_other'",
    "DELETE FROM event_log",
    "UPDATE public.catalogue SET probe = ''",
    "INSERT INTO visitor_keys VALUES (gen_random_uuid(), 1)",
    "PERFORM * FROM visitor_keys",
    "UPDATE projections SET position = 0",
    "PERFORM append_own_event('x', '', '', '', '', '{}')",
    "PERFORM advance_projection('sessions', 1)",
    "SET ROLE usage_server",
    "RESET ROLE",
    "CREATE TABLE public.mine ()",
]


async def test_a_fold_may_write_its_own_tables_only(own_database: Connection, path: Path) -> None:
    await append_traffic(own_database, 50)
    await fold_all(own_database)
    for statement in FORBIDDEN:
        statements = f"""
            CREATE TABLE mine ();
            CREATE FUNCTION fold_types(after_position bigint, to_position bigint) RETURNS void LANGUAGE plpgsql AS $$
            BEGIN {statement}; END $$;
        """
        with pytest.raises(
            MaintenanceError, match=r"types cannot go on after position 0: (permission denied|cannot set)"
        ):
            await add(own_database, path, statements, ignore)
        assert not await leftovers(own_database), statement
        assert await own_database.fetchval("SELECT count(*) FROM projections") == len(PROJECTIONS)
    await assert_as_the_reference(own_database)


async def test_a_fold_that_fails_leaves_nothing(own_database: Connection, path: Path) -> None:
    await append_traffic(own_database, 50)
    await own_database.execute("SELECT append_own_event('x_odd', 'fog', NULL, NULL, 'test', '{}')")
    broken = TYPES.replace("count(*) FROM event_log", "count(*) / min((type <> 'x_odd')::integer) FROM event_log")
    with pytest.raises(MaintenanceError, match=r"types\.sql: types cannot go on after position 50: division by zero"):
        await add(own_database, path, broken, ignore)
    assert await own_database.fetchval("SELECT to_regnamespace('types')") is None
    assert not await leftovers(own_database)
    await add(own_database, path, TYPES, ignore)
    with pytest.raises(MaintenanceError, match="division by zero"):
        await add(own_database, path, broken, ignore)
    assert await is_right(own_database)
    assert not await leftovers(own_database)


@pytest.mark.parametrize("second", [TYPES, DOUBLED])
async def test_two_at_once(own_database: Connection, own_database_url: str, path: Path, second: str) -> None:
    """Of the same file both end well; of two, one may be told that it was too late. One of them is live, and right."""
    await append_traffic(own_database, 300)
    other = await connect(own_database_url, application="tests")
    try:
        adding: list[Any] = [add(own_database, path, TYPES, ignore), add(other, path, second, ignore)]
        ended = await asyncio.gather(*adding, return_exceptions=True)
    finally:
        await other.close()
    assert all(isinstance(end, Filled | MaintenanceError) for end in ended), ended
    assert Filled(300, 0) in ended
    assert second != TYPES or ended == [Filled(300, 0)] * 2
    assert await is_right(own_database, 1) or await is_right(own_database, 2)
    assert (await verify(own_database, "types", ignore)).equal
    assert not await leftovers(own_database)


async def test_an_interrupted_one_is_gone_on_with_and_another_file_begins_anew(
    own_database: Connection, path: Path
) -> None:
    await own_database.execute("SELECT append_own_event('x_first', 'fog', NULL, NULL, 'test', '{}')")
    await append_traffic(own_database, 100)
    begin = "SELECT define_projection('types', 'rebuild', $1)"
    for begun, file, goes_on in ((TYPES, TYPES, True), (DOUBLED, TYPES, False)):
        await own_database.execute(begin, begun)
        await own_database.execute("SELECT advance_projection('types', 40, 'rebuild')")
        seen = await own_database.fetchval("SELECT array_agg(xmin::text ORDER BY t) FROM rebuild_types.by_type")
        await add(own_database, path, file, ignore)
        again = await own_database.fetchval("SELECT array_agg(xmin::text ORDER BY t) FROM types.by_type")
        assert bool(set(seen) & set(again)) == goes_on
        assert await is_right(own_database)


async def test_a_rebuild_does_not_go_on_with_another_file(own_database: Connection, path: Path) -> None:
    await append_traffic(own_database, 100)
    await add(own_database, path, TYPES, ignore)
    await own_database.execute("SELECT define_projection('types', 'rebuild', $1)", DOUBLED)
    with pytest.raises(MaintenanceError, match="with another file was begun"):
        await rebuild(own_database, "types", {}, ignore)
    assert await is_right(own_database)
