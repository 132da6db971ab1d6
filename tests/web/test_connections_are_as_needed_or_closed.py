"""A connection is made as it is needed or not at all: durable, in time, and closed when nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.servers import Connection, eventually
from usage_service.shared import postgres, schema
from usage_service.shared.postgres import connect, open_pool
from usage_service.shared.schema import DatabaseAwayError, install_schema


@pytest.mark.parametrize(
    ("default", "used"), [("off", "on"), ("local", "on"), ("on", "on"), ("remote_apply", "remote_apply")]
)
async def test_a_weak_default_is_raised_and_a_strong_one_stays(
    database: Connection, database_url: str, default: str, used: str
) -> None:
    name = await database.fetchval("SELECT quote_ident(current_database())")
    await database.execute(" ".join(["ALTER DATABASE", name, "SET synchronous_commit =", default]))
    try:
        connection = await connect(database_url, application="test")
        assert await connection.fetchval("SHOW synchronous_commit") == used
        await connection.close()
        async with open_pool(database_url, role="usage_server", application="test", size=1) as pool:
            assert await pool.fetchval("SHOW synchronous_commit") == used
    finally:
        await database.execute(" ".join(["ALTER DATABASE", name, "RESET synchronous_commit"]))


async def test_a_database_that_is_not_there_is_said_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "START_SECONDS", 0.2)
    monkeypatch.setattr(schema, "RETRY_SECONDS", 0.05)
    with pytest.raises(DatabaseAwayError, match="DATABASE_URL was not reached"):
        await install_schema("postgresql://nobody@127.0.0.1:9/nothing")


async def test_a_connection_that_nobody_waits_for_any_more_is_closed(
    database: Connection, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def stuck(connection: object) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(postgres, "_set_up_session", stuck)
    connecting = asyncio.create_task(connect(database_url, application="abandoned"))
    await reached.wait()
    connecting.cancel()
    await asyncio.wait({connecting}, timeout=10)

    async def closed() -> bool:
        return not await database.fetchval(
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE application_name = 'abandoned' AND datname = current_database()"
        )

    await eventually(closed, "the connection is closed")
