"""Who may only read the log cannot hold up who writes it or who folds it: the locks that they take need a right."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.servers import Connection, connected
from tests.support.traffic import append_traffic, ignore
from usage_service.projections.rebuilding import rebuild

ROLES = ["usage_reader", "usage_builder", "usage_server", "usage_projections"]
# What held everything up, taken in the place of a number that nobody may know.
KNOWN_LOCKS = """
SELECT pg_advisory_lock(x'676c616d'::bigint),
       pg_advisory_lock(hashtextextended('history of the log', 0)),
       pg_advisory_lock(hashtextextended('projection live sessions', 0)),
       pg_advisory_lock(hashtextextended('projection rebuild sessions', 0)),
       pg_advisory_lock(hashtextextended('filling rebuild sessions', 0))
"""
LOCK_TABLES = ["event_log_lock", "filling_lock"]
INSTALLED_BEFORE = "UPDATE schema_version SET installed_at = installed_at - interval '5 minutes'"


@pytest.mark.parametrize("role", ROLES)
async def test_events_are_recorded_folded_and_rebuilt_whatever_locks_a_role_takes(
    own_database_url: str, own_database: Connection, role: str
) -> None:
    await own_database.execute(INSTALLED_BEFORE)
    async with connected(own_database_url) as other:
        await other.execute(f"SET ROLE {role}")
        await other.execute(KNOWN_LOCKS)
        await own_database.execute("SET lock_timeout = '2s'")
        await append_traffic(own_database, 20)
        await own_database.execute("SELECT probe_recording()")
        assert await own_database.fetchval("SELECT now_at FROM advance_projection('sessions', 100)") == 20
        assert await rebuild(own_database, "sessions", {}, ignore) == (20, 0)


@pytest.mark.parametrize("role", ROLES)
async def test_no_role_takes_the_locks_themselves(own_database: Connection, role: str) -> None:
    await own_database.execute(f"SET ROLE {role}")
    for table in LOCK_TABLES:
        for mode in ("ACCESS SHARE", "ROW EXCLUSIVE", "SHARE UPDATE EXCLUSIVE", "ACCESS EXCLUSIVE"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await own_database.execute(f"BEGIN; LOCK TABLE {table} IN {mode} MODE")
            await own_database.execute("ROLLBACK")
    for refused in (
        "SELECT lock_event_log()",
        "SELECT lock_projection('sessions', 'live')",
        "SELECT FROM projections FOR NO KEY UPDATE",
        "BEGIN; LOCK TABLE dropped_events IN SHARE MODE",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await own_database.execute(refused)


async def test_calls_of_before_the_migration_are_waited_for(own_database_url: str, own_database: Connection) -> None:
    """An older program's call that waits for the log while the migration commits takes the old lock after it."""
    async with connected(own_database_url) as older:
        await older.execute("SELECT pg_advisory_lock(x'676c616d'::bigint)")
        await own_database.execute(
            "SET lock_timeout = '200ms'; INSERT INTO schema_version (version, works_with) VALUES (3, 2)"
        )
        with pytest.raises(asyncpg.LockNotAvailableError):
            await own_database.execute("SELECT append_own_event('x_new', 'fog', NULL, NULL, 'test', '{}')")
    await own_database.execute(
        "SET lock_timeout = '10s'; SELECT append_own_event('x_new', 'fog', NULL, NULL, 'test', '{}')"
    )
