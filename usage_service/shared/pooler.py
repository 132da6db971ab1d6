"""A check of a transaction pooler, by its behaviour: clients are not told its version or configuration."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from usage_service.shared.connecting import AddressError, connect_to
from usage_service.shared.queries import SqlFolder

if TYPE_CHECKING:
    Client = asyncpg.Connection[asyncpg.Record]

TRIES = 5
# Another session than the one where it was prepared does not know the statement; the one where another client prepared
# one of that name refuses it.
LOST = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)
_query = SqlFolder(Path(__file__).parent / "sql").statement


async def refuse_losing_pooler(url: str, options: dict[str, Any]) -> None:
    """Raise AddressError for a pooler that loses prepared statements between transactions."""
    try:
        for _ in range(TRIES):
            if await _keeps_statements(url, options | {"statement_cache_size": 0}):
                return
    except LOST:
        raise AddressError(
            "DATABASE_URL: the pooler loses prepared statements between transactions; let it keep them (PgBouncer 1.21 "
            "or later with max_prepared_statements above 0), let it pool sessions, or give a direct address"
        ) from None


async def _keeps_statements(url: str, options: dict[str, Any]) -> bool:
    """Return whether the pooler was seen to keep them, raise one of LOST where it does not, and False if neither shows.

    That depends on which of the pooler's sessions the transactions get. No transaction waits for another: many programs
    that check a small pooler at once would else hold all its sessions, and each wait for one more.
    """
    name = f"glam_usage_{secrets.token_hex(4)}"  # none that an earlier check has left in a session
    async with _client(url, options) as first, _client(url, options) as second:
        async with first.transaction():
            statement = await first.prepare(_query("session", "backend_pid"), name=name)
            prepared_in = await statement.fetchval()
        if any([await statement.fetchval() != prepared_in for _ in range(2)]):  # it works in another session
            return True
        async with second.transaction():
            other = await second.prepare(_query("session", "negative_backend_pid"), name=name)
            if await other.fetchval() == -prepared_in:  # and two of the same name in one
                return True
        answered_by = await statement.fetchval()
        if answered_by < 0:
            raise asyncpg.InvalidSQLStatementNameError("the statement of another client was run")
        return bool(answered_by != prepared_in)


@asynccontextmanager
async def _client(url: str, options: dict[str, Any]) -> AsyncIterator[Client]:
    connection = await connect_to(url, options)
    try:
        yield connection
    finally:
        connection.terminate()
