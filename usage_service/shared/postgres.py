"""Connections to PostgreSQL: every wait bounded, a role with the least it needs, UTC.

Through a transaction pooler (PgBouncer) a session is not ours: bounds and rights are then those of the login role.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import msgspec
import structlog

from usage_service.shared.settings import SettingsError

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

# As strings, because only the type checker can subscript them.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

log = structlog.get_logger(__name__)

SetUp: TypeAlias = "Callable[[asyncpg.Connection[asyncpg.Record]], Coroutine[Any, Any, None]]"

CONNECT_SECONDS = 5.0
STATEMENT_SECONDS = 30.0
GRACE_SECONDS = 5.0  # for the server to end a statement by itself, before we stop to listen

LOGIN_ROLE = """
SELECT current_user, $1::text IS NULL OR pg_has_role($1, 'USAGE'),
       current_setting('synchronous_commit') IN ('off', 'local'), current_setting('statement_timeout') = '0'
"""

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

# asyncpg has one error for a connection or pool that has ended and for arguments that are wrong.
ENDED = ("closed", "closing", "released", "cancelling")


def is_away(error: BaseException) -> bool:
    """Whether one of UNAVAILABLE says that the database is, rather than that it was asked wrongly: our own mistake."""
    if not isinstance(error, asyncpg.InterfaceError):
        return True
    return not isinstance(error, ValueError) and any(word in str(error) for word in ENDED)


class PooledError(SettingsError):
    """The address leads to a pooler that gives each transaction another session."""

    def __init__(self) -> None:
        super().__init__(
            "LISTEN_DATABASE_URL must be a direct address of the database, without a pooler; "
            "set it where DATABASE_URL leads to one"
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


def _pooled(options: dict[str, Any]) -> dict[str, Any]:
    """What of these a pooler takes and keeps to, whichever session it gives us."""
    kept = {name: options["server_settings"][name] for name in ("application_name", "timezone")}
    return options | {"server_settings": kept}


async def connect(
    url: str,
    *,
    role: str | None = None,
    application: str,
    statement_seconds: float | None = None,
    direct: bool = False,
) -> asyncpg.Connection[asyncpg.Record]:
    """One connection; `role` is what it may do from then on.

    Raises PooledError where it has to be `direct` and is not, SettingsError where a pooler's login role lacks rights.
    """
    options = connection_options(role, application, statement_seconds)
    try:
        return await _connect(url, options, _set_up_session)
    except PooledError:
        if direct:
            raise
        return await _connect(url, _pooled(options), _pooled_set_up(role))


async def _connect(url: str, options: dict[str, Any], set_up: SetUp) -> asyncpg.Connection[asyncpg.Record]:
    async with _pooler_named():
        connection: asyncpg.Connection[asyncpg.Record] = await asyncpg.connect(url, **options)
    try:
        await set_up(connection)
    except BaseException:  # cancelled, too: nobody else knows of the connection yet
        connection.terminate()
        raise
    return connection


@asynccontextmanager
async def open_pool(url: str, *, role: str, application: str, size: int) -> AsyncIterator[Pool]:
    """A pool of `size` connections at most, closed at the end within 10 s; SettingsError as connect() has it."""
    options = {"min_size": 1, "max_size": size, "reset": _keep_session} | connection_options(role, application)
    try:
        pool = await _opened(url, options, _set_up_session)
    except PooledError:
        pool = await _opened(url, _pooled(options), _pooled_set_up(role))
        log.info("connected_through_a_pooler", application=application)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(10):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _opened(url: str, options: dict[str, Any], set_up: SetUp) -> Pool:
    async with _pooler_named():
        pool: Pool = asyncpg.create_pool(url, init=set_up, **options)
        await pool
    return pool


@asynccontextmanager
async def _pooler_named() -> AsyncIterator[None]:
    """A pooler takes few of a session's settings when it begins."""
    try:
        yield
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" in str(error):
            raise PooledError from None
        raise


async def _keep_session(connection: Connection) -> None:
    """Nothing: sessions hold no state that the next user does not set itself, and a reset is a round trip."""


async def _set_up_session(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await _set_codecs(connection)
    # A pooler that ignores what it does not know shows by the process that answers: it is not whom we connected to.
    if await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid():
        raise PooledError
    # What is acknowledged is durable, whatever the default of the database or the role; stronger ones stay.
    await connection.execute(
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    )


def _pooled_set_up(role: str | None) -> SetUp:
    """What of a session's set-up has to be the login role's own."""

    async def set_up(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await _set_codecs(connection)
        [(login, may, forgets, unbounded)] = await connection.fetch(LOGIN_ROLE, role)
        if not may:
            raise SettingsError(
                f"DATABASE_URL: through a pooler {login} needs the rights itself: GRANT {role} TO {login}"
            )
        if forgets:
            raise SettingsError(f"DATABASE_URL: ALTER ROLE {login} SET synchronous_commit = on; it is off or local")
        if unbounded:
            log.warning("statements_are_not_bounded", hint=f"ALTER ROLE {login} SET statement_timeout = '30s'")

    return set_up


async def _set_codecs(connection: Connection) -> None:
    # jsonb travels as msgspec decodes and encodes it; json stays text, because its key order matters.
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )


def _encode_jsonb(value: object) -> bytes:
    return b"\x01" + (bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value))


def _decode_jsonb(value: bytes) -> object:
    return msgspec.json.decode(memoryview(value)[1:])
