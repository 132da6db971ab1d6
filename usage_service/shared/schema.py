"""Installation of `schema.sql` in an empty database and migration of an older one, by whichever program comes first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import asyncpg
import structlog

from usage_service.shared.errors import AwayError, UserError
from usage_service.shared.migrations import FIRST_VERSION, Migration, load_migrations
from usage_service.shared.postgres import UNAVAILABLE, connect, query

SCHEMA_VERSION = 6
INSTALL_LOCK = 0x676C616E
START_SECONDS = 30.0
RETRY_SECONDS = 0.5
MIGRATION_SECONDS = 3_600.0

log = structlog.get_logger(__name__)


class SchemaMismatchError(UserError):
    """The database holds a schema that this program does not work with; the message says what to do."""


class OwnerNeededError(SchemaMismatchError):
    """The login may not change the schema, and nobody who may has done it in time."""


class DatabaseAwayError(AwayError):
    """The database was not reached in time."""


class Schema(NamedTuple):
    """The schema that a program was made for: `text` installs it, `migrations` lead an older one to it."""

    version: int
    text: str
    migrations: list[Migration]

    def works_with(self, version: int) -> int:
        """Return the oldest version whose programs work with the schema at `version`."""
        return max((one.works_with for one in self.migrations if one.version <= version), default=FIRST_VERSION)


class Installed(NamedTuple):
    """The version of the schema in a database, and the oldest one whose programs work with it; zeros if not stored."""

    version: int
    works_with: int


def schema_text() -> str:
    """Read `schema.sql`, from the installed package or the root of the repository."""
    packaged = files("usage_service") / "schema.sql"
    return (packaged if packaged.is_file() else Path(__file__).parents[2] / "schema.sql").read_text("utf-8")


def current_schema() -> Schema:
    """Read the schema of this program."""
    return Schema(SCHEMA_VERSION, schema_text(), load_migrations())


async def install_schema(url: str, *, alone: bool = False, schema: Schema | None = None) -> int:
    """Leave the database at the program's version, or at a later one that works with it, and return which.

    Wait for a database that is starting; where this login may not change the schema, also for one that may, since
    `usage-service migrate` may be starting, too. Apply a migration after which programs of the version before do not
    work only when `alone`: no other program is running. Raise SchemaMismatchError, or DatabaseAwayError when the
    database is not reached in START_SECONDS.
    """
    wanted = schema or current_schema()
    connection = await _connect_when_up(url)
    began = time.monotonic()
    try:
        while True:
            installed = await _installed(connection)
            if installed is not None and _is_enough(installed, wanted):
                return installed.version
            try:
                await _step(connection, wanted, alone=alone)
            except (asyncpg.LockNotAvailableError, OwnerNeededError) as error:
                await _wait_for_others(error, time.monotonic() - began)
    finally:
        await connection.close()


async def _wait_for_others(error: asyncpg.LockNotAvailableError | OwnerNeededError, waited: float) -> None:
    """Wait a moment for whoever has the lock on the schema or owns it; raise what says so where that took too long."""
    if isinstance(error, OwnerNeededError):
        if waited > START_SECONDS:
            raise error
        log.info("waiting_for_the_owner_to_change_the_schema")
    else:
        if waited > MIGRATION_SECONDS:
            raise DatabaseAwayError("the schema is locked by another session for too long") from None
        log.info("waiting_for_a_lock_on_the_schema")
    await asyncio.sleep(RETRY_SECONDS)


def _is_enough(installed: Installed, wanted: Schema) -> bool:
    """Return whether nothing is to be done. Raise SchemaMismatchError where nothing can be done."""
    if installed.version < FIRST_VERSION:
        raise SchemaMismatchError(
            f"the database has schema {installed.version}, this program needs {wanted.version}: "
            "start with an empty database"
        )
    if installed.works_with > wanted.version:
        raise SchemaMismatchError(
            f"the database has schema {installed.version}, which programs of {installed.works_with} and later work "
            f"with, newer than this program's {wanted.version}: update the program"
        )
    return installed.version >= wanted.version


async def _step(connection: asyncpg.Connection[asyncpg.Record], wanted: Schema, *, alone: bool) -> None:
    """Install the schema, or apply the next migration, in a transaction of its own."""
    async with _owner_named(), connection.transaction():
        await connection.execute(query("installation", "bound"))
        await connection.execute(query("installation", "lock"), INSTALL_LOCK)
        installed = await _installed(connection)  # again, now that no other program changes it
        if installed is None:
            await connection.execute(wanted.text)
            await _record(connection, wanted.version, wanted.works_with(wanted.version))
            log.info("schema_installed", version=wanted.version)
        elif not _is_enough(installed, wanted):
            await _migrate(connection, wanted.migrations[installed.version - FIRST_VERSION], alone=alone)


async def _migrate(connection: asyncpg.Connection[asyncpg.Record], migration: Migration, *, alone: bool) -> None:
    if migration.works_with == migration.version and not alone:
        raise SchemaMismatchError(
            f"programs of older versions do not work after migration {migration.name}: "
            "stop all servers and builders, then run `usage-service migrate`"
        )
    await connection.execute(migration.text)
    await _record(connection, migration.version, migration.works_with)
    log.info("schema_migrated", version=migration.version, migration=migration.name)


async def _record(connection: asyncpg.Connection[asyncpg.Record], version: int, works_with: int) -> None:
    await connection.execute(query("installation", "record"), version, works_with)


async def _installed(connection: asyncpg.Connection[asyncpg.Record]) -> Installed | None:
    """Return what is installed, or None where nothing is."""
    if not await connection.fetchval(query("installation", "is_installed")):
        return None
    [row] = await connection.fetch(query("installation", "installed"))
    return Installed(*row)


@asynccontextmanager
async def _owner_named() -> AsyncIterator[None]:
    """Raise OwnerNeededError where the login may not change the schema, because only its owner may."""
    try:
        yield
    except asyncpg.InsufficientPrivilegeError as error:
        raise OwnerNeededError(
            f"DATABASE_URL may not change the schema ({error.message}); run `usage-service migrate` with the owner's"
        ) from None


async def refuse_missing_database(url: str) -> None:
    """Raise DatabaseAwayError where the database does not answer now, before anything begins that needs it.

    Raise AddressError where its address is wrong.
    """
    try:
        connection = await connect(url, application="usage-service check")
    except UNAVAILABLE as error:
        raise _not_reached(error) from None
    await connection.close(timeout=5)


def _not_reached(error: BaseException) -> DatabaseAwayError:
    return DatabaseAwayError(f"the database of DATABASE_URL was not reached: {str(error) or repr(error)}")


async def _connect_when_up(url: str) -> asyncpg.Connection[asyncpg.Record]:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await connect(url, application="usage-service schema", statement_seconds=MIGRATION_SECONDS)
        except UNAVAILABLE as error:
            if time.monotonic() > deadline:
                raise _not_reached(error) from None
            log.info("waiting_for_database", error=repr(error))
        await asyncio.sleep(RETRY_SECONDS)
