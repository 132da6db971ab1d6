"""No role that the programs use may change the log, and each may do just what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.support.servers import Client, Connection, drained_projections, event, post, registered
from usage_service.shared.postgres import connect

ROLES = ["usage_server", "usage_builder", "usage_reader"]
CHANGES = [
    "INSERT INTO event_log SELECT * FROM event_log",
    "INSERT INTO event_log SELECT * FROM event_log ON CONFLICT DO NOTHING",
    "UPDATE event_log SET type = 'x_other'",
    "DELETE FROM event_log",
    "TRUNCATE event_log",
    "TRUNCATE event_log CASCADE",
    "MERGE INTO event_log l USING event_log s ON l.position = s.position WHEN MATCHED THEN DELETE",
    "COPY event_log FROM STDIN",
    "SELECT * FROM event_log FOR UPDATE",
    "LOCK TABLE event_log IN ACCESS EXCLUSIVE MODE",
    "DROP TABLE event_log",
    "DROP TABLE event_log CASCADE",
    "ALTER TABLE event_log DROP COLUMN visitor",
    "ALTER TABLE event_log DISABLE TRIGGER ALL",
    "ALTER TABLE event_log OWNER TO CURRENT_USER",
    "ALTER TABLE event_log RENAME TO event_log_old",
    "CREATE INDEX ON event_log (type)",
    "CREATE RULE nothing AS ON INSERT TO event_log DO INSTEAD NOTHING",
    "CREATE TRIGGER t BEFORE INSERT ON event_log EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE POLICY p ON event_log",
    "CREATE OR REPLACE FUNCTION append_events() RETURNS void LANGUAGE sql AS ''",
    "DROP FUNCTION append_events",
    "DROP FUNCTION append_new_events",
    "CREATE TABLE mine (position bigint REFERENCES event_log)",
    "SELECT nextval('event_position')",
    "SELECT setval('event_position', 1)",
    "ALTER SEQUENCE event_position RESTART",
    "SET session_replication_role = replica",
]
OTHER_CHANGES = [
    "UPDATE builds SET state = 'succeeded'",
    "DELETE FROM builds",
    "DELETE FROM probe_rows",
    "UPDATE projections SET position = 0",
    "DELETE FROM sessions",
    "UPDATE catalogue SET metric_type = 'counter'",
    "UPDATE schema_version SET version = 99",
    "SELECT * FROM visitor_keys",
    "DELETE FROM visitor_keys",
]
MEANT_FOR = {
    "append_events": "usage_server",
    "append_new_events": "usage_server",
    "forget_visitors": "usage_server",
    "advance_projection": "usage_server",
    "request_build": "usage_server",
    "claim_build": "usage_builder",
    "exchange_builds": "usage_builder",
    "heartbeat_build": "usage_builder",
    "complete_build": "usage_builder",
    "fail_build": "usage_builder",
    "expire_leases": "usage_builder",
    "note_builder": "usage_builder",
}
INNER = [
    "lock_event_log",
    "append_own_event",
    "discard_dead_letters",
    "fold_catalogue",
    "fold_popularity",
    "fold_range",
    "fold_ranges",
    "fold_releases",
    "fold_sessions",
    "hold_build",
    "give_up_attempt",
    "end_build",
    "lock_claimable_builds",
    "record_transition",
    "record_transitions",
    "refold_dead_letters",
    "retry_dead_letters",
    "set_aside",
]


@asynccontextmanager
async def connected(url: str, role: str) -> AsyncIterator[Connection]:
    connection = await connect(url, role=role, application="tests")
    try:
        yield connection
    finally:
        await connection.close()


async def is_refused(connection: Connection, statement: str) -> bool:
    try:
        async with connection.transaction():
            await connection.execute(statement)
    except asyncpg.InsufficientPrivilegeError:
        return True
    return False


@pytest.mark.parametrize("role", ROLES)
async def test_nothing_that_a_role_tries_changes_anything(
    client: Client, database: Connection, database_url: str, role: str
) -> None:
    await post(client, event(), registered("gc_ms"))
    before = await database.fetch("SELECT l::text FROM event_log l ORDER BY position")
    async with connected(database_url, role) as connection:
        for statement in [*CHANGES, *OTHER_CHANGES]:
            assert await is_refused(connection, statement), f"{role} may: {statement}"
        await connection.execute("GRANT ALL ON event_log TO PUBLIC")  # a warning only: it has nothing to grant
    assert await database.fetch("SELECT l::text FROM event_log l ORDER BY position") == before
    assert not await database.fetchval("SELECT has_table_privilege('public', 'event_log', 'SELECT')")


@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_call_what_is_meant_for_it(database: Connection, role: str) -> None:
    rows = await database.fetch(
        """
        SELECT p.proname, has_function_privilege($1, p.oid, 'EXECUTE') AS may FROM pg_proc p
        WHERE p.pronamespace = 'public'::regnamespace
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')
        """,
        role,
    )
    may = {row["proname"]: row["may"] for row in rows}
    assert {name: may[name] for name in MEANT_FOR} == {name: meant == role for name, meant in MEANT_FOR.items()}
    assert not any(may[name] for name in INNER)


async def test_nobody_else_may_call_anything_that_changes(database: Connection) -> None:
    definers = await database.fetch(
        "SELECT oid::regprocedure::text AS name, proconfig FROM pg_proc"
        " WHERE prosecdef AND pronamespace = 'public'::regnamespace"
    )
    assert definers
    for row in definers:
        assert "search_path=public, pg_temp" in row["proconfig"], row["name"]
        assert not await database.fetchval("SELECT has_function_privilege('public', $1, 'EXECUTE')", row["name"])


async def test_each_role_can_do_its_work(client: Client, database_url: str, database: Connection) -> None:
    await post(client, registered("gc_ms"))
    await drained_projections(database)  # by the server: a fold beside it would leave out what it has under way
    async with connected(database_url, "usage_server") as server:
        await server.execute("SELECT advance_projection('sessions', 1000)")
        build_id = await server.fetchval("SELECT build_id FROM request_build('fog', 'nightly', 'gc_ms')")
        assert build_id is not None
    async with connected(database_url, "usage_builder") as builder:
        claimed = await builder.fetchrow("SELECT * FROM claim_build('tests', '30 s')")
        assert claimed is not None
        assert claimed["build_id"] == build_id
        await builder.execute("SELECT heartbeat_build($1, 1, '30 s', 'querying', 50)", build_id)
        assert await builder.fetchval("SELECT complete_build($1, 1, 10)", build_id) == 0
        assert await builder.fetchval("SELECT expire_leases()") == 0
    async with connected(database_url, "usage_reader") as reader:
        assert await reader.fetchval("SELECT state FROM builds") == "no_data"
        assert await reader.fetchval("SELECT last_position()") == 5


async def test_a_readers_shadow_of_a_table_is_not_used(client: Client, database_url: str, database: Connection) -> None:
    await post(client, event())
    async with connected(database_url, "usage_server") as server:
        await server.execute("CREATE TEMP TABLE projections (name text, version int, position bigint, updated_at date)")
        await server.execute("INSERT INTO pg_temp.projections VALUES ('sessions', 1, 99, NULL)")
        row = await server.fetchrow("SELECT * FROM advance_projection('sessions', 10)")
        assert row is not None
        assert row["now_at"] <= 1
    assert await database.fetchval("SELECT max(position) FROM projections") <= 1
