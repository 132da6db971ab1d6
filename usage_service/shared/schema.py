"""Installs `schema.sql` into an empty database, once, whichever program comes first."""

from __future__ import annotations

import asyncio
import time
from importlib.resources import files
from pathlib import Path

import asyncpg
import structlog

from usage_service.shared.postgres import UNAVAILABLE, connect

SCHEMA_VERSION = 1
INSTALL_LOCK = 0x676C616E
START_SECONDS = 30.0
RETRY_SECONDS = 0.5

log = structlog.get_logger(__name__)


class SchemaMismatchError(Exception):
    """The database holds another version of the schema than this program works with."""


def schema_text() -> str:
    """The text of `schema.sql`, from the installed package or the root of the repository."""
    packaged = files("usage_service") / "schema.sql"
    return (packaged if packaged.is_file() else Path(__file__).parents[2] / "schema.sql").read_text("utf-8")


class DatabaseAwayError(Exception):
    """The database was not reached in time."""


async def install_schema(url: str) -> None:
    """Leaves the database at SCHEMA_VERSION; waits for one that is starting.

    Raises SchemaMismatchError when it holds another version, DatabaseAwayError when it is not reached in START_SECONDS.
    """
    connection = await _connect_when_up(url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", INSTALL_LOCK)
            installed = await connection.fetchval("SELECT to_regclass('public.schema_version') IS NOT NULL")
            if not installed:
                await connection.execute(schema_text())
                await connection.execute("INSERT INTO schema_version (version) VALUES ($1)", SCHEMA_VERSION)
                log.info("schema_installed", version=SCHEMA_VERSION)
            _check(await connection.fetchval("SELECT max(version) FROM schema_version"))
    finally:
        await connection.close()


async def _connect_when_up(url: str) -> asyncpg.Connection[asyncpg.Record]:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await connect(url, application="usage-service schema")
        except UNAVAILABLE as error:
            if time.monotonic() > deadline:
                raise DatabaseAwayError(f"the database of DATABASE_URL was not reached: {error}") from None
            log.info("waiting_for_database", error=repr(error))
        await asyncio.sleep(RETRY_SECONDS)


def _check(version: int | None) -> None:
    if version is not None and version > SCHEMA_VERSION:
        raise SchemaMismatchError(
            f"the database has schema {version}, newer than this program's {SCHEMA_VERSION}: update the program"
        )
    if version != SCHEMA_VERSION:
        raise SchemaMismatchError(
            f"the database has schema {version}, this program needs {SCHEMA_VERSION}: start with an empty database"
        )
