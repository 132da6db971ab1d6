"""The set-up of the commands that work on the database itself, as its owner."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import NamedTuple, TypeVar

import asyncpg

from usage_service.projections.rebuilding import MaintenanceError, owner_connection
from usage_service.projections.runner import UnfoldableError
from usage_service.shared.commands import DISK_ERRORS
from usage_service.shared.local_services import database_url
from usage_service.shared.postgres import UNAVAILABLE, Connection, is_away
from usage_service.shared.schema import DatabaseAwayError

Result = TypeVar("Result")


class Database(NamedTuple):
    """The database that the options name: that of `url`, else of the local stack in `data_dir`."""

    url: str | None
    data_dir: Path

    def run(self, work: Callable[[str], Coroutine[object, object, Result]]) -> Result:
        """Run work that is given the database's URL.

        Raise DatabaseAwayError where the database goes away, MaintenanceError where it ends it otherwise, SettingsError
        where there is no database.
        """
        found = database_url(self.url, self.data_dir)
        try:
            return asyncio.run(work(found))
        except UnfoldableError as error:
            raise MaintenanceError(str(error)) from error
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            if isinstance(error, OSError) and (error.filename or error.errno in DISK_ERRORS):
                raise  # of a file
            kind = DatabaseAwayError if isinstance(error, UNAVAILABLE) and is_away(error) else MaintenanceError
            raise kind(f"the database ended it: {str(error) or repr(error)}; run it again to go on") from error

    def run_as_owner(self, work: Callable[[Connection], Awaitable[Result]]) -> Result:
        """Run work that is given one connection; raise as `run` does."""

        async def connected(found: str) -> Result:
            async with owner_connection(found) as connection:
                return await work(connection)

        return self.run(connected)
