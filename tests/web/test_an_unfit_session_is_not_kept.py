"""A session that was opened while the database was read-only is not kept: when the database is well, so are we."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from tests.conftest import SECRET, Start
from tests.support.servers import Client, Connection, connected, event, eventually, post
from usage_service.shared import postgres
from usage_service.shared.postgres import open_pool
from usage_service.shared.settings import ServerSettings

READ_ONLY = "ALTER DATABASE {} SET default_transaction_read_only = {}"


class Primary:
    """Database whose new sessions can be made read-only, as those of a demoted primary are."""

    def __init__(self, owner: Connection, name: str) -> None:
        self._owner = owner
        self._name = name

    async def demote(self) -> None:
        await self._set("on")
        await self._owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()",
            self._name,
        )

    async def promote(self) -> None:
        await self._set("off")

    async def _set(self, state: str) -> None:
        # The owner's own session is from before; it may write.
        await self._owner.execute(READ_ONLY.format(self._name, state))


@pytest.fixture
async def primary(own_database_url: str) -> AsyncIterator[Primary]:
    async with connected(own_database_url) as owner:
        made = Primary(owner, await owner.fetchval("SELECT current_database()"))
        yield made
        await made.promote()


@pytest.fixture
async def client(own_database_url: str, start: Start) -> Client:
    return await start(ServerSettings(database_url=own_database_url, visitor_secret=SECRET))


async def records(client: Client) -> bool:
    return (await client.post("/v1/events", json=[event()])).status == 201


async def test_events_are_recorded_again_seconds_after_the_database_is_well(primary: Primary, client: Client) -> None:
    await post(client, event())
    await primary.demote()

    async def every_session_is_read_only() -> bool:
        answers = [(await client.post("/v1/events", json=[event()])).status for _ in range(20)]
        return set(answers) == {503}

    await eventually(every_session_is_read_only, "nothing can be recorded")
    await primary.promote()

    async def every_session_records() -> bool:  # each one that was read-only refuses one request, and ends
        return all([await records(client) for _ in range(20)])

    await eventually(every_session_records, "events are recorded again")


async def test_a_builders_session_is_replaced_too(primary: Primary, own_database_url: str) -> None:
    await primary.demote()
    async with open_pool(own_database_url, role="usage_builder", application="tests", size=1) as pool:
        async with pool.acquire() as connection:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await connection.execute("SELECT expire_leases()")
            await primary.promote()  # the pool opens another session as soon as this one ends
        async with pool.acquire() as connection:
            await connection.execute("SELECT expire_leases()")


async def test_a_pooled_connection_has_a_longest_life(own_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_pool(own_database_url, role="usage_server", application="tests", size=1) as pool:

        async def backend() -> int:
            async with pool.acquire() as connection:
                number: int = await connection.fetchval("SELECT pg_backend_pid()")
            return number

        first = await backend()
        assert await backend() == first
        monkeypatch.setattr(postgres, "LONGEST_LIFE_SECONDS", 0.0)
        assert await backend() == first  # it ends when it is given back
        monkeypatch.undo()
        second = await backend()
        assert second != first
        assert await backend() == second


async def test_a_session_that_copies_alone_is_replaced_too(
    primary: Primary, own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A builder stores rows with COPY, whose errors are seen by no logger of queries."""
    monkeypatch.setattr(postgres, "LONGEST_READ_ONLY_SECONDS", 0.0)
    await primary.demote()
    async with open_pool(own_database_url, role="usage_builder", application="tests", size=1) as pool:
        async with pool.acquire() as connection:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await connection.copy_records_to_table("probe_rows", records=[], columns=["probe"])
            await primary.promote()
        async with pool.acquire() as connection:
            assert await connection.fetchval("SHOW transaction_read_only") == "off"


async def test_a_session_that_only_reads_leaves_a_primary_that_was_demoted(
    own_database: Connection, own_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it reads there is older and older; a demotion that ends no session is told by PostgreSQL with any answer."""
    monkeypatch.setattr(postgres, "LONGEST_READ_ONLY_SECONDS", 0.0)
    async with open_pool(own_database_url, role="usage_server", application="tests", size=1) as pool:
        async with pool.acquire() as connection:
            first = await connection.fetchval("SELECT pg_backend_pid()")
            await connection.execute("SET default_transaction_read_only = on")
        async with pool.acquire() as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") != first
