"""Filling projections beside the live ones: rebuilt and swapped in, added, dropped, verified. Resumable throughout.

And taking up again what a live one has set aside.

Everything works on a connection of the database's owner; the log and the live projections go on meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

import asyncpg

from usage_service.projections.runner import NO_PROJECTION, Folder, NoProjectionError, UnfoldableError
from usage_service.queries import query
from usage_service.shared.errors import UserError
from usage_service.shared.postgres import UNAVAILABLE, Connection, connect
from usage_service.shared.progress import Report
from usage_service.shared.schema import DatabaseAwayError

BATCH_POSITIONS = 50_000
LEFT_TO_THE_SWAP = 5_000
SWAP_SECONDS = 60.0
RETRY_SECONDS = 0.1
STATEMENT_SECONDS = 3_600.0
MOST_DIFFERENCES = 10
NOT_WHOLE = "UB005"


class Filled(NamedTuple):
    """The position at which a projection was swapped in, and how many events it could not fold and set aside."""

    position: int
    set_aside: int


class Retried(NamedTuple):
    """How many events that were set aside are folded now, and how many still cannot be."""

    folded: int
    still_set_aside: int


class MaintenanceError(UserError):
    """Raised when a projection cannot be changed as asked; the message says why and what would help."""


class Warehouse(Protocol):
    """A warehouse that computes the rows of projections from its own copy of the log, as of a position."""

    @property
    def projections(self) -> list[str]:
        """Return the projections that can be had there."""
        ...

    async def upto(self, connection: Connection, projection: str) -> int:
        """Return that position; raise a UserError where the projection cannot be had there."""

    async def fill(self, connection: Connection, projection: str, stage: str, upto: int) -> None:
        """Fill what was begun, unless that has rows already."""


class TableVerdict(NamedTuple):
    """A table as it is live and as it is rebuilt; `differences` has rows of one alone: which, and the row."""

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
    """The result of a verification, both projections being at `position`."""

    projection: str
    position: int
    tables: list[TableVerdict]
    set_aside: int

    @property
    def equal(self) -> bool:
        """Whether the live projection is what a rebuild makes of the log, without the events that are set aside."""
        return all(table.equal for table in self.tables)


@asynccontextmanager
async def owner_connection(url: str) -> AsyncIterator[Connection]:
    """Open a connection of the database's owner for statements that take long."""
    try:
        connection = await connect(url, application="usage-service maintenance", statement_seconds=STATEMENT_SECONDS)
    except (*UNAVAILABLE, asyncpg.PostgresError) as error:
        raise DatabaseAwayError(f"the database was not reached: {error}") from None
    try:
        yield connection
    finally:
        await connection.close()


async def rebuild(
    connection: Connection,
    projection: str,
    changes: Mapping[str, object],
    report: Report,
    warehouse: Warehouse | None = None,
) -> Filled:
    """Fill the projection anew, with changed settings if any, and swap it in; go on where it was interrupted.

    What a warehouse can compute of it, it does; the rest is from the log. Raise MaintenanceError for an unknown
    projection or setting, when a rebuild with other settings was begun, and where events were dropped from the log.
    """
    settings = await _settings(connection, projection, changes)
    upto = await warehouse.upto(connection, projection) if warehouse else 0
    generation = await _begin(connection, projection, "rebuild", settings, upto)
    other = await connection.fetchval(query("projections", "begun"), projection, generation, settings)
    if other is not None:
        raise MaintenanceError(f"a rebuild of {projection} with {other} was begun: go on with that, or --restart")
    if warehouse:
        await warehouse.fill(connection, projection, "rebuild", upto)
    return await _fill_and_swap(connection, projection, generation, report)


async def add(connection: Connection, path: Path, statements: str, report: Report) -> Filled:
    """Define a projection by a file's statements, fill it from history, make it live; a changed file replaces it.

    Its name is the file's. Raise MaintenanceError when the statements fail, or the fold for any event of history, which
    its author can mend at once; nothing is left of it then.
    """
    projection = path.stem
    begun = await connection.fetchval(query("projections", "definition"), projection, "rebuild")
    if begun is not None and begun != statements:
        await abandon(connection, projection, "rebuild")
    try:
        generation = await connection.fetchval(query("projections", "define"), projection, "rebuild", statements)
    except asyncpg.PostgresError as error:
        raise MaintenanceError(f"{path}{_line(error, statements)}: {told(error)}") from None
    try:
        return await _fill_and_swap(connection, projection, generation, report, is_whole=True)
    except UnfoldableError as error:
        await abandon(connection, projection, "rebuild")
        raise MaintenanceError(f"{path}: {error}") from None


async def abandon(connection: Connection, projection: str, stage: str) -> bool:
    """Drop the tables filled beside the live projection; return whether there were any."""
    return bool(await connection.fetchval(query("projections", "drop"), projection, stage))


async def abandon_all(connection: Connection, projection: str) -> None:
    """Drop all that is filled beside the live projection; raise MaintenanceError where nothing is."""
    if not sum([await abandon(connection, projection, stage) for stage in ("rebuild", "verify")]):
        raise MaintenanceError(f"nothing is filled beside {projection}; `usage-service projections` lists what is")


async def drop(connection: Connection, projection: str) -> None:
    """Drop a projection that was added, and those filled beside it; raise MaintenanceError for any other."""
    async with connection.transaction():
        if not await connection.fetchval(query("projections", "drop"), projection, "live"):
            raise MaintenanceError(f"no projection {projection} was added; the built-in ones stay")
        for stage in ("rebuild", "verify"):
            await connection.fetchval(query("projections", "drop"), projection, stage)


async def retry(connection: Connection, projection: str, report: Report) -> Retried:
    """Take up what a live projection has set aside.

    One that was added is rebuilt, because its fold may depend on the order of events. Raise MaintenanceError for an
    unknown projection, and while somebody else folds it for long.
    """
    await _settings(connection, projection, {})
    before = await _set_aside(connection, projection)
    if before and await connection.fetchval(query("projections", "definition"), projection, "live") is not None:
        await abandon(connection, projection, "rebuild")
        _, still = await rebuild(connection, projection, {}, report)
        return Retried(max(before - still, 0), still)
    try:
        async with _missing_named():
            [row] = await connection.fetch(query("projections", "retry"), projection)
    except (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError):
        raise MaintenanceError(f"{projection} is being folded for long; run it again") from None
    return Retried(*row)


async def discard(connection: Connection, projection: str) -> int:
    """Give up what a live projection has set aside; return how many events.

    Raise MaintenanceError for an unknown projection.
    """
    await _settings(connection, projection, {})
    discarded: int = await connection.fetchval(query("projections", "discard"), projection)
    return discarded


async def verify(
    connection: Connection, projection: str, report: Report, warehouse: Warehouse | None = None
) -> Verdict:
    """Fill the projection anew beside the live one and compare both at the live one's position.

    What a warehouse can compute of it, it does. Go on where it was interrupted. Raise MaintenanceError for an unknown
    projection, and where events were dropped.
    """
    await _settings(connection, projection, {})
    upto = 0
    if warehouse:  # not beyond the live one: both are compared where that is
        live = await connection.fetchval(query("projections", "position"), projection, "live")
        upto = min(await warehouse.upto(connection, projection), live)
    await _begin(connection, projection, "verify", None, upto)
    if warehouse:
        await warehouse.fill(connection, projection, "verify", upto)
    try:
        await _fill(connection, projection, "verify", report)
        return await _compare(connection, projection)
    except NoProjectionError:
        raise MaintenanceError(f"another verification of {projection} ended meanwhile; run it again") from None


async def _begin(
    connection: Connection, projection: str, stage: str, settings: Mapping[str, object] | None, upto: int
) -> UUID:
    async with _missing_named():
        generation: UUID = await connection.fetchval(query("projections", "begin"), projection, stage, settings, upto)
    return generation


async def _compare(connection: Connection, projection: str) -> Verdict:
    deadline = time.monotonic() + SWAP_SECONDS
    while True:
        async with connection.transaction(), _missing_named():
            position = await connection.fetchval(query("projections", "align"), projection)
            if position is not None:
                tables = [await _compared(connection, projection, row) for row in await _hashes(connection, projection)]
                set_aside = await _set_aside(connection, projection)
                await connection.fetchval(query("projections", "drop"), projection, "verify")
                return Verdict(projection, position, tables, set_aside)
        await _pause(deadline, f"{projection} could not be held still for {SWAP_SECONDS:g} s; run it again to go on")


async def _set_aside(connection: Connection, projection: str) -> int:
    number: int = await connection.fetchval(query("projections", "set_aside"), projection, "live")
    return number


async def _hashes(connection: Connection, projection: str) -> list[asyncpg.Record]:
    return list(await connection.fetch(query("projections", "hashes"), projection))


async def _compared(connection: Connection, projection: str, row: asyncpg.Record) -> TableVerdict:
    verdict = TableVerdict(**row, differences=[])
    if not verdict.equal:
        rows = await connection.fetch(query("projections", "differences"), projection, verdict.name, MOST_DIFFERENCES)
        verdict.differences.extend((found["only_in"], found["row_text"]) for found in rows)
    return verdict


@asynccontextmanager
async def _missing_named() -> AsyncIterator[None]:
    try:
        yield
    except asyncpg.PostgresError as error:
        if error.sqlstate == NO_PROJECTION:
            raise NoProjectionError(str(error)) from None
        if error.sqlstate == NOT_WHOLE:
            raise MaintenanceError(told(error)) from None
        raise


async def _settings(connection: Connection, projection: str, changes: Mapping[str, object]) -> dict[str, object]:
    settings: Mapping[str, object] | None
    settings = await connection.fetchval(query("projections", "settings"), projection, "live")
    if settings is None:
        names = ", ".join(row["name"] for row in await connection.fetch(query("projections", "live")))
        raise MaintenanceError(f"there is no projection {projection}; there are {names}")
    for name, value in changes.items():
        if name not in settings:
            known = f"it has {', '.join(sorted(settings))}" if settings else "it has none"
            raise MaintenanceError(f"{projection} has no setting {name}; {known}")
        if type(value) is not type(settings[name]):
            raise MaintenanceError(f"{name} must be like {settings[name]!r}, which it is now")
        if isinstance(value, int) and value < 1:
            raise MaintenanceError(f"{name} must be 1 or more")
    return {**settings, **changes}


async def _fill(connection: Connection, projection: str, stage: str, report: Report) -> None:
    folder = Folder(projection, stage, BATCH_POSITIONS)
    seen, deadline = -1, 0.0
    while True:
        fold = await folder.fold(connection)
        report(fold.now_at)
        if fold.now_at >= fold.log_end:
            return
        if fold.now_at > seen:
            seen, deadline = fold.now_at, time.monotonic() + SWAP_SECONDS
        if fold.now_at == fold.was_at:  # another process fills it just now
            await _pause(deadline, f"another process holds {projection} and has not moved it for {SWAP_SECONDS:g} s")


async def _fill_and_swap(
    connection: Connection, projection: str, generation: UUID, report: Report, *, is_whole: bool = False
) -> Filled:
    try:
        position = await _swapped(connection, projection, report, is_whole=is_whole)
    except NoProjectionError:
        # Whoever filled it at the same time has swapped it.
        position = await connection.fetchval(query("projections", "swapped"), projection, generation)
        if position is None:
            raise MaintenanceError(f"what was filled of {projection} was dropped meanwhile; run it again") from None
    return Filled(position, await _set_aside(connection, projection))


async def _require_whole(connection: Connection, projection: str) -> None:
    letter = await connection.fetchrow(query("projections", "first_dead_letter"), projection, "rebuild")
    if letter is not None:
        raise UnfoldableError(projection, letter["position"] - 1, letter["error"])


async def _swapped(connection: Connection, projection: str, report: Report, *, is_whole: bool) -> int:
    deadline: float | None = None
    while True:
        # To the very end: what cannot go on is never swapped in.
        await _fill(connection, projection, "rebuild", report)
        if is_whole:
            await _require_whole(connection, projection)
        deadline = deadline or time.monotonic() + SWAP_SECONDS
        try:
            position = await _swap(connection, projection)
        except UNAVAILABLE:
            raise
        except asyncpg.PostgresError as error:
            raise MaintenanceError(f"{projection} is filled but cannot be swapped: {told(error)}") from None
        if position is not None:
            return position
        await _pause(
            deadline, f"{projection} is filled but could not be swapped for {SWAP_SECONDS:g} s; run it again to go on"
        )


async def _swap(connection: Connection, projection: str) -> int | None:
    # One statement, so that nobody waits for this process while the tables are locked.
    try:
        async with _missing_named():
            position: int | None
            position = await connection.fetchval(query("projections", "swap"), projection, LEFT_TO_THE_SWAP)
            return position
    except (asyncpg.LockNotAvailableError, asyncpg.TransactionRollbackError):
        return None  # a reader holds a table for long


async def _pause(deadline: float, why: str) -> None:
    if time.monotonic() > deadline:
        raise MaintenanceError(why)
    await asyncio.sleep(RETRY_SECONDS)


def _line(error: asyncpg.PostgresError, statements: str) -> str:
    """Where in the file it is, when the database says so: in the file itself or in the body of a function there."""
    position, within = error.internal_position or error.position, error.internal_query or statements
    if not position or statements.count(within) != 1:
        return ""
    return f", line {statements.count(chr(10), 0, statements.index(within) + int(position) - 1) + 1}"


def told(error: asyncpg.PostgresError) -> str:
    """Return the database's message in one line."""
    more = "; ".join(text for text in (error.detail, error.hint) if text)
    return f"{error.message} ({more})" if more else str(error.message)
