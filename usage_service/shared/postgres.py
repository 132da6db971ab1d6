"""Connections to PostgreSQL: every wait bounded, a role with the least it needs, UTC."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import msgspec

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

# As strings, because only the type checker can subscript them.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 30.0
GRACE_SECONDS = 5.0  # for the server to end a statement by itself, before we stop to listen

# What a client sees when the database is away, restarting, overloaded or out of anything: worth trying again.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.TransactionRollbackError,
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what asyncpg raises on a connection that the server ended
)


def connection_options(role: str | None, application: str, statement_seconds: float | None = None) -> dict[str, Any]:
    """What connect() and create_pool() are given: who we are, and how long anything may take at most."""
    seconds = STATEMENT_SECONDS if statement_seconds is None else statement_seconds
    bounds = {
        "application_name": application,
        "timezone": "UTC",
        "statement_timeout": str(int(seconds * 1000)),
        "lock_timeout": "10000",
        "idle_in_transaction_session_timeout": "15000",
        "tcp_keepalives_idle": "10",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }
    return {
        "timeout": CONNECT_SECONDS,
        "command_timeout": seconds + GRACE_SECONDS,
        "server_settings": bounds | ({"role": role} if role else {}),
    }


async def connect(
    url: str, *, role: str | None = None, application: str, statement_seconds: float | None = None
) -> asyncpg.Connection[asyncpg.Record]:
    """One connection; `role` is what it may do from then on."""
    options = connection_options(role, application, statement_seconds)
    connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url, **options)
    try:
        await _set_up(connection)
    except BaseException:  # cancelled, too: nobody else knows of the connection yet
        connection.terminate()
        raise
    return connection


@asynccontextmanager
async def open_pool(url: str, *, role: str, application: str, size: int) -> AsyncIterator[Pool]:
    """A pool of `size` connections at most, closed at the end within 10 s."""
    options = connection_options(role, application)
    pool = asyncpg.create_pool(url, min_size=1, max_size=size, init=_set_up, reset=_keep_session, **options)
    await pool
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(10):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _keep_session(connection: Connection) -> None:
    """Nothing: sessions hold no state that the next user does not set itself, and a reset is a round trip."""


async def _set_up(connection: Connection) -> None:
    await _set_codecs(connection)
    # What is acknowledged is durable, whatever the default of the database or the role; stronger ones stay.
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    )


async def _set_codecs(connection: Connection) -> None:
    # jsonb travels as msgspec decodes and encodes it; json stays text, because its key order matters.
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )


def _encode_jsonb(value: object) -> bytes:
    return b"\x01" + (bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value))


def _decode_jsonb(value: bytes) -> object:
    return msgspec.json.decode(memoryview(value)[1:])
