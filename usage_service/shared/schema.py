"""Installs `schema.sql` into an empty database, once, whichever program comes first."""

from importlib.resources import files
from pathlib import Path

import structlog

from usage_service.shared.postgres import connect

SCHEMA_VERSION = 1
INSTALL_LOCK = 0x676C616E

log = structlog.get_logger(__name__)


class SchemaMismatchError(Exception):
    """The database holds another version of the schema than this program works with."""


def schema_text() -> str:
    """The text of `schema.sql`, from the installed package or the root of the repository."""
    packaged = files("usage_service") / "schema.sql"
    return (packaged if packaged.is_file() else Path(__file__).parents[2] / "schema.sql").read_text("utf-8")


async def install_schema(url: str) -> None:
    """Leaves the database at SCHEMA_VERSION; raises SchemaMismatchError when it holds another one."""
    connection = await connect(url, application="usage-service schema")
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


def _check(version: int | None) -> None:
    if version is not None and version > SCHEMA_VERSION:
        raise SchemaMismatchError(
            f"the database has schema {version}, newer than this program's {SCHEMA_VERSION}: update the program"
        )
    if version != SCHEMA_VERSION:
        raise SchemaMismatchError(
            f"the database has schema {version}, this program needs {SCHEMA_VERSION}: start with an empty database"
        )
