"""Connections to PostgreSQL: every wait bounded, a role with the least rights it needs, UTC.

Through a transaction pooler (PgBouncer) a session is not ours: bounds and rights are then those of the login role.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary, WeakSet

import asyncpg
import msgspec
import structlog

from usage_service.shared.connecting import AddressError, PooledError, connect_to
from usage_service.shared.pooler import refuse_losing_pooler
from usage_service.shared.queries import SqlFolder

if TYPE_CHECKING:
    from asyncpg.connection import LoggedQuery
    from asyncpg.pool import PoolConnectionProxy

# As strings, because only the type checker can subscript them.
Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

log = structlog.get_logger(__name__)

SetUp: TypeAlias = "Callable[[asyncpg.Connection[asyncpg.Record]], Coroutine[Any, Any, None]]"

# The statements that both programs run, by file and name.
query = SqlFolder(Path(__file__).parent / "sql").statement

STATEMENT_SECONDS = 30.0
LONGEST_LIFE_SECONDS = 600.0  # of a pooled connection: whatever is wrong with a session unnoticed ends with it
LONGEST_READ_ONLY_SECONDS = 1.0  # of one that may only read: another may write by now, here or on another host
GRACE_SECONDS = 5.0  # for the server to end a statement by itself, before we stop waiting for it

# The errors of a database that is away, restarting, overloaded or out of some resource: trying again makes sense.
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
    asyncpg.InternalClientError,  # asyncpg raises it on a connection that the server ended
)

# What PostgreSQL says of a session rather than of a statement: it is read-only (opened while the database was), its
# transaction is not ours to use, its prepared statements are not there. The next connection may do better.
UNFIT = frozenset({
    asyncpg.ReadOnlySQLTransactionError.sqlstate,
    asyncpg.InFailedSQLTransactionError.sqlstate,
    asyncpg.InvalidSQLStatementNameError.sqlstate,
    asyncpg.DuplicatePreparedStatementError.sqlstate,
})  # fmt: skip

# asyncpg has one error for a connection or pool that has ended and for arguments that are wrong.
ENDED = ("closed", "closing", "released", "cancelling")


def is_away(error: BaseException) -> bool:
    """Return whether one of UNAVAILABLE means that the database is away, rather than a wrong call: a bug of ours."""
    if not isinstance(error, asyncpg.InterfaceError):
        return True
    return not isinstance(error, ValueError) and any(word in str(error) for word in ENDED)


def connection_options(role: str | None, application: str, statement_seconds: float | None = None) -> dict[str, Any]:
    """Return arguments of connect() and create_pool(): the role, the application's name, and the longest waits."""
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
        "command_timeout": seconds + GRACE_SECONDS,
        "server_settings": bounds | ({"role": role} if role else {}),
    }


def _pooled(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that a pooler accepts and applies to whichever session it gives us."""
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
    """Connect, with the rights of `role` from then on.

    Raise PooledError where the connection has to be `direct` and a pooler answers, and AddressError where the address
    is wrong, the login role of a pooler lacks rights, or the pooler loses prepared statements.
    """
    options = connection_options(role, application, statement_seconds)
    try:
        return await _connect(url, options, _set_up_session)
    except PooledError:
        if direct:
            raise
        await refuse_losing_pooler(url, _pooled(options))
        return await _connect(url, _pooled(options), _pooled_set_up(role))


async def _connect(url: str, options: dict[str, Any], set_up: SetUp) -> asyncpg.Connection[asyncpg.Record]:
    connection = await connect_to(url, options)
    try:
        await set_up(connection)
    except BaseException:  # cancelled, too: nobody else knows of the connection yet
        connection.terminate()
        raise
    return connection


@asynccontextmanager
async def open_pool(url: str, *, role: str, application: str, size: int) -> AsyncIterator[Pool]:
    """Open a pool of `size` connections at most, closed at the end within 10 s. Raise AddressError as `connect`.

    That is at the start alone. Later it is a ConnectionError: the password may be about to be changed.
    """
    options = connection_options(role, application)
    try:
        pool = await _opened(url, size, options, _set_up_session)
    except PooledError:
        await refuse_losing_pooler(url, _pooled(options))
        pool = await _opened(url, size, _pooled(options), _pooled_set_up(role))
        log.info("connected_through_a_pooler", application=application)
    try:
        yield pool
    finally:
        try:
            async with asyncio.timeout(10):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _opened(url: str, size: int, options: dict[str, Any], set_up: SetUp) -> Pool:
    is_open = False

    async def connect_again(*_of_the_pool: object, **_named: object) -> asyncpg.Connection[asyncpg.Record]:
        try:
            return await _connect(url, options, set_up)
        except AddressError as error:
            if not is_open:
                raise
            raise ConnectionError(str(error)) from None

    pool: Pool = asyncpg.create_pool(url, connect=connect_again, min_size=1, max_size=size, reset=_keep_session)
    await pool
    is_open = True
    return pool


@asynccontextmanager
async def borrow(pool: Pool, seconds: float) -> AsyncIterator[Connection]:
    """Lend a connection for so many seconds, the wait for it included; raise TimeoutError then and end the connection.

    To take it back, the pool would wait until the server has cancelled the statement, which one that is frozen never
    does.
    """
    async with asyncio.timeout(seconds), pool.acquire() as connection:
        try:
            yield connection
        except asyncio.CancelledError:
            connection.terminate()
            raise


@asynccontextmanager
async def at_one_instant(pool: Pool) -> AsyncIterator[Connection]:
    """Lend a connection in a transaction that reads the database as of its first statement.

    Its statements are planned for their values. Those whose conditions are optional need it: in a plan for any values,
    to which PostgreSQL may turn after five executions, no index serves such a condition.
    """
    async with (
        pool.acquire(timeout=5) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        await connection.execute(query("session", "plan_for_values"))
        yield connection


_born: WeakKeyDictionary[asyncpg.Connection[asyncpg.Record], float] = WeakKeyDictionary()
_unfit: WeakSet[asyncpg.Connection[asyncpg.Record]] = WeakSet()


async def _keep_session(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Keep a session that is given back as it is: its next user sets all the state that it needs.

    End it where PostgreSQL has said that it is unfit, soon where it is read-only, and after LONGEST_LIFE_SECONDS, busy
    or not; asyncpg itself ends idle ones alone. The pool opens another in its place.
    """
    longest = LONGEST_READ_ONLY_SECONDS if is_read_only(connection) else LONGEST_LIFE_SECONDS
    if connection in _unfit or time.monotonic() - _born[connection] > longest:
        connection.terminate()


def is_read_only(connection: asyncpg.Connection[asyncpg.Record]) -> bool:
    """Return whether PostgreSQL has reported that the session may only read, as one of a primary that was demoted.

    It reports a change with its answer to the next statement, to COPY too, whose errors no logger of asyncpg sees.
    """
    settings = connection.get_settings()
    return any(getattr(settings, name, "off") == "on" for name in ("default_transaction_read_only", "in_hot_standby"))


def is_unfit(error: BaseException | None) -> bool:
    """Return whether an error says that the session is unfit, rather than the statement."""
    return isinstance(error, asyncpg.PostgresError) and error.sqlstate in UNFIT


async def _begin_session(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Prepare what every session has: its codecs, its age, and a look at its errors."""

    def judge(statement: LoggedQuery) -> None:
        if is_unfit(statement.exception):
            log.warning("session_unfit", error=str(statement.exception))
            _unfit.add(connection)

    _born[connection] = time.monotonic()
    connection.add_query_logger(judge)
    await _set_codecs(connection)


async def _set_up_session(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await _begin_session(connection)
    # A pooler that ignores unknown settings is known by the process that answers: not the one we connected to.
    if await connection.fetchval(query("session", "backend_pid")) != connection.get_server_pid():
        raise PooledError
    await connection.execute(query("session", "make_commits_durable"))


def _pooled_set_up(role: str | None) -> SetUp:
    """Return a set-up for a pooler's sessions, which checks that the login role itself has the settings and rights."""

    async def set_up(connection: asyncpg.Connection[asyncpg.Record]) -> None:
        await _begin_session(connection)
        rows = await connection.fetch(query("session", "login"), role)
        [(login, may_work, is_not_durable, is_unbounded)] = rows
        if not may_work:
            raise AddressError(
                f"DATABASE_URL: through a pooler {login} needs the rights itself: GRANT {role} TO {login}"
            )
        if is_not_durable:
            raise AddressError(f"DATABASE_URL: ALTER ROLE {login} SET synchronous_commit = on; it is off or local")
        if is_unbounded:
            log.warning("statements_are_not_bounded", hint=f"run ALTER ROLE {login} SET statement_timeout = '30s'")

    return set_up


async def _set_codecs(connection: Connection) -> None:
    # jsonb is decoded and encoded by msgspec; json stays text, because its key order matters.
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=_encode_jsonb, decoder=_decode_jsonb, format="binary"
    )


def _encode_jsonb(value: object) -> bytes:
    return b"\x01" + (bytes(value) if isinstance(value, msgspec.Raw) else msgspec.json.encode(value))


def _decode_jsonb(value: bytes) -> object:
    return msgspec.json.decode(memoryview(value)[1:])
