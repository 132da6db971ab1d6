"""Filling projections beside the live ones: rebuilt and swapped in, added, dropped, verified. Resumable throughout.

Everything works on a connection of the database's owner; the log and the live projections go on meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg

from usage_service.folding import Folder, UnfoldableError
from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Connection, connect
from usage_service.shared.progress import Report

BATCH_POSITIONS = 50_000
LEFT_TO_THE_SWAP = 5_000
SWAP_SECONDS = 60.0
RETRY_SECONDS = 0.1
STATEMENT_SECONDS = 3_600.0
MOST_DIFFERENCES = 10


class MaintenanceError(Exception):
    """What was asked for cannot be done; the message says why and what would help."""


class TableVerdict(NamedTuple):
    """A table as it is live and as it is rebuilt; `differences` has rows of either: where they are, and what."""

    name: str
    live_rows: int
    live_hash: str
    rebuilt_rows: int
    rebuilt_hash: str
    differences: list[tuple[str, str]]

    @property
    def equal(self) -> bool:
        """Whether both hold the same rows."""
        return (self.live_rows, self.live_hash) == (self.rebuilt_rows, self.rebuilt_hash)


class Verdict(NamedTuple):
    """What verification found, both being at `position`."""

    projection: str
    position: int
    tables: list[TableVerdict]

    @property
    def equal(self) -> bool:
        """Whether the live projection is what a rebuild makes of the log."""
        return all(table.equal for table in self.tables)


@asynccontextmanager
async def owner_connection(url: str) -> AsyncIterator[Connection]:
    """A connection for statements that take long."""
    try:
        connection = await connect(url, application="usage-service maintenance", statement_seconds=STATEMENT_SECONDS)
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        raise MaintenanceError(f"the database was not reached: {error}") from None
    try:
        yield connection
    finally:
        await connection.close()


async def rebuild(connection: Connection, projection: str, changes: Mapping[str, object], report: Report) -> int:
    """Fills the projection anew, with changed settings if any, and swaps it in; goes on where it was interrupted.

    Answers the position of the swap. Raises MaintenanceError for an unknown projection or setting, and when a rebuild
    with other settings was begun.
    """
    settings = await _settings(connection, projection, changes)
    async with connection.transaction():
        await connection.fetchval(query("projections", "begin"), projection, "rebuild", settings)
    if await connection.fetchval(query("projections", "settings"), projection, "rebuild") != settings:
        raise MaintenanceError(
            f"a rebuild of {projection} with other settings was begun: go on with those, or --restart"
        )
    return await _fill_and_swap(connection, projection, report)


async def add(connection: Connection, path: Path, statements: str, report: Report) -> int:
    """Defines a projection by the statements of a file, fills it from history, makes it live; a changed file replaces it.

    Its name is the file's. Raises MaintenanceError when the statements or the fold fail; nothing is left of it then.
    """
    projection = path.stem
    begun = await connection.fetchval(query("projections", "definition"), projection, "rebuild")
    if begun is not None and begun != statements:
        await abandon(connection, projection, "rebuild")
    if begun != statements:
        try:
            async with connection.transaction():
                await connection.fetchval(query("projections", "define"), projection, "rebuild", statements)
        except asyncpg.PostgresError as error:
            raise MaintenanceError(f"{path}{_line(error, statements)}: {error}{_hint(error)}") from None
    try:
        return await _fill_and_swap(connection, projection, report)
    except UnfoldableError as error:
        await abandon(connection, projection, "rebuild")
        raise MaintenanceError(f"{path}: cannot fold {error}") from None


async def abandon(connection: Connection, projection: str, stage: str) -> bool:
    """Drops what is filled beside the live projection; whether there was any."""
    async with connection.transaction():
        return bool(await connection.fetchval(query("projections", "drop"), projection, stage))


async def drop(connection: Connection, projection: str) -> None:
    """Drops a projection that was added, and what is filled beside it; raises MaintenanceError for any other."""
    async with connection.transaction():
        if not await connection.fetchval(query("projections", "drop"), projection, "live"):
            raise MaintenanceError(f"no projection {projection} was added; the built-in ones stay")
        for stage in ("rebuild", "verify"):
            await connection.fetchval(query("projections", "drop"), projection, stage)


async def verify(connection: Connection, projection: str, report: Report) -> Verdict:
    """Fills the projection anew beside the live one and compares both at the live one's position."""
    await _settings(connection, projection, {})
    async with connection.transaction():
        await connection.fetchval(query("projections", "begin"), projection, "verify", None)
    await _fill(connection, projection, "verify", report)
    deadline = time.monotonic() + SWAP_SECONDS
    while True:
        async with connection.transaction():
            position = await connection.fetchval(query("projections", "align"), projection)
            if position is not None:
                tables = [await _compared(connection, projection, row) for row in await _hashes(connection, projection)]
                await connection.fetchval(query("projections", "drop"), projection, "verify")
                return Verdict(projection, position, tables)
        await _pause(deadline, f"{projection} could not be held still for {SWAP_SECONDS:g} s; run it again to go on")


async def _hashes(connection: Connection, projection: str) -> list[asyncpg.Record]:
    return list(await connection.fetch(query("projections", "hashes"), projection))


async def _compared(connection: Connection, projection: str, row: asyncpg.Record) -> TableVerdict:
    verdict = TableVerdict(**row, differences=[])
    if not verdict.equal:
        rows = await connection.fetch(query("projections", "differences"), projection, verdict.name, MOST_DIFFERENCES)
        verdict.differences.extend((found["only_in"], found["row_text"]) for found in rows)
    return verdict


async def _settings(connection: Connection, projection: str, changes: Mapping[str, object]) -> dict[str, object]:
    settings: Mapping[str, object] | None
    settings = await connection.fetchval(query("projections", "settings"), projection, "live")
    if settings is None:
        names = ", ".join(row["name"] for row in await connection.fetch(query("projections", "live")))
        raise MaintenanceError(f"there is no projection {projection}; there are {names}")
    for name, value in changes.items():
        if name not in settings:
            known = f"it has {', '.join(settings)}" if settings else "it has none"
            raise MaintenanceError(f"{projection} has no setting {name}; {known}")
        if type(value) is not type(settings[name]):
            raise MaintenanceError(f"{name} must be like {settings[name]!r}, which it is now")
    return {**settings, **changes}


async def _fill(connection: Connection, projection: str, stage: str, report: Report) -> None:
    folder = Folder(projection, stage, BATCH_POSITIONS)
    while True:
        fold = await folder.fold(connection)
        report(fold.now_at)
        if fold.log_end - fold.now_at <= LEFT_TO_THE_SWAP:
            return
        if fold.now_at == fold.was_at:
            await asyncio.sleep(RETRY_SECONDS)  # another process fills it just now


async def _fill_and_swap(connection: Connection, projection: str, report: Report) -> int:
    deadline: float | None = None
    while True:
        await _fill(connection, projection, "rebuild", report)
        deadline = deadline or time.monotonic() + SWAP_SECONDS
        try:
            async with connection.transaction():
                if await connection.fetchval(query("projections", "swap"), projection, LEFT_TO_THE_SWAP):
                    position: int = await connection.fetchval(query("projections", "position"), projection, "live")
                    return position
        except asyncpg.LockNotAvailableError:
            pass  # a reader holds the table for long
        await _pause(
            deadline, f"{projection} is filled but could not be swapped for {SWAP_SECONDS:g} s; run it again to go on"
        )


async def _pause(deadline: float, why: str) -> None:
    if time.monotonic() > deadline:
        raise MaintenanceError(why)
    await asyncio.sleep(RETRY_SECONDS)


def _line(error: asyncpg.PostgresError, statements: str) -> str:
    """Where in the file it is, when the database says so."""
    position = error.internal_position or error.position
    if not position or (error.internal_query or statements) != statements:
        return ""
    return f", line {statements.count(chr(10), 0, int(position)) + 1}"


def _hint(error: asyncpg.PostgresError) -> str:
    return f" ({error.hint})" if error.hint else ""
