"""A command that works on the database says whether that went away, refuses, or a file is what is wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from usage_service.commands.database import Database
from usage_service.projections.rebuilding import MaintenanceError
from usage_service.shared.exit_codes import ExitCode
from usage_service.shared.postgres import Connection
from usage_service.shared.schema import DatabaseAwayError


def running(statement: str) -> Callable[[Connection], Awaitable[object]]:
    return lambda connection: connection.execute(statement)


@pytest.mark.parametrize(
    ("statement", "error", "code"),
    [
        ("SELECT pg_terminate_backend(pg_backend_pid())", DatabaseAwayError, ExitCode.AWAY),
        ("SELECT 1 / 0", MaintenanceError, ExitCode.REFUSED),
    ],
)
async def test_a_database_that_goes_away_is_not_one_that_refuses(
    database_url: str, statement: str, error: type[DatabaseAwayError | MaintenanceError], code: ExitCode
) -> None:
    run = partial(Database(database_url, Path("none")).run_as_owner, running(statement))
    with pytest.raises(error, match=r"the database ended it: .*; run it again to go on") as caught:
        await asyncio.to_thread(run)
    assert caught.value.exit_code == code


def test_a_file_that_cannot_be_written_is_not_the_database(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def write(_url: str) -> None:
        await asyncio.to_thread((tmp_path / "file" / "old").mkdir)

    with pytest.raises(NotADirectoryError):
        Database("postgresql://nobody@nowhere.invalid/none", tmp_path).run(write)
