"""Retention: old events leave the log for Parquet files or its mirror, and come back, each exactly as it was."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import asyncpg
import msgspec
import pyarrow as pa

from usage_service.log.batches import events_of
from usage_service.log.exported import ParquetSource
from usage_service.log.exports import write_batches
from usage_service.log.mirrored import MirrorPlace, MirrorSource
from usage_service.log.reading import LogFilter
from usage_service.log.sources import DatabaseSource
from usage_service.projections.rebuilding import MaintenanceError, owner_connection, told
from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.shared.progress import Report
from usage_service.shared.threads import in_thread, in_turn

NOT_AS_EXPORTED = "UB006"
SOURCE = "retention"


class Moved(NamedTuple):
    """A move of events out of the log or back: the file, or the name of the mirror, how many, and the last position."""

    place: Path | str
    events: int
    upto: int


class PositionRange(NamedTuple):
    """The first and the last position of a part of the log, both included."""

    first: int
    last: int


async def find_old_range(connection: Connection, before: datetime) -> PositionRange | None:
    """Return the beginning of the log that was recorded before an instant, or None."""
    [(first, last)] = await connection.fetch(query("retention", "old_range"), before)
    return None if first is None else PositionRange(first, last)


async def drop_old(url: str, old: PositionRange, directory: Path, report: Report) -> Moved:
    """Export a part of the log to `directory`, and drop the events that the file has exactly as the log: all or none.

    Report each position twice. Raise MaintenanceError where a projection has not folded the events yet or a mirror does
    not have them, and LogReadError where they cannot be exported.
    """
    path = directory / f"events-{old.first}-{old.last}.parquet"
    half = old.last - old.first + 1
    await asyncio.to_thread(_export, url, old, path, lambda position: report(position - old.first + 1))
    async with _transaction(url) as connection:
        batches = ParquetSource(path).batches(0, old.last, LogFilter())
        events = await _apply(connection, "drop", batches, lambda position: report(half + position - old.first + 1))
        await _record(connection, "events_dropped", old.last, events, await asyncio.to_thread(_of_file, path))
    return Moved(path, events, old.last)


async def drop_mirrored(url: str, old: PositionRange, mirror: str, report: Report) -> Moved:
    """Drop a part of the log that a mirror has, as was verified: all or none. Report each position.

    Raise MaintenanceError where it does not, or a projection has not folded the events yet.
    """
    async with _transaction(url) as connection:
        begins_after = await connection.fetchval(query("mirror", "begins_after"), mirror)
        if begins_after is None or begins_after >= old.first:
            has = "is not there" if begins_after is None else f"begins after position {begins_after}"
            raise MaintenanceError(
                f"the mirror {mirror} {has}, and events from position {old.first} on are to be dropped: "
                "give a DIRECTORY, which gets a file of them"
            )
        batches = DatabaseSource(url, partial=True).batches(old.first - 1, old.last, LogFilter())
        events = await _apply(connection, "drop", batches, lambda position: report(position - old.first + 1))
        await _record(connection, "events_dropped", old.last, events, {"mirror": mirror})
    return Moved(mirror, events, old.last)


async def put_back(url: str, path: Path, report: Report) -> Moved:
    """Put the events that were dropped after their export to `path` back into the log, and report positions.

    Events that the log still holds are skipped. Raise MaintenanceError where the file holds any other event, and
    LogReadError where it cannot be read.
    """
    end = await asyncio.to_thread(ParquetSource(path).end)
    async with _transaction(url) as connection:
        events = await _apply(connection, "put_back", ParquetSource(path).batches(0, end, LogFilter()), report)
        if events:
            about = await asyncio.to_thread(_of_file, path)
            await _record(connection, "events_put_back", end, events, about)
    return Moved(path, events, end)


async def put_back_mirrored(url: str, place: MirrorPlace, report: Report) -> Moved:
    """Put all that was dropped back into the log from its mirror, and report positions twice.

    It is read into a file first: a transaction that waits for the network is ended. Raise as `put_back` does.
    """
    async with owner_connection(url) as connection:
        first, last = await connection.fetchrow(query("retention", "dropped_range")) or (None, None)
    if first is None or last is None:
        return Moved(place.mirror, 0, 0)
    with TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        path = Path(directory) / "mirrored.parquet"
        batches = MirrorSource(place, url).batches(first - 1, last, LogFilter())
        await in_thread(partial(write_batches, path, batches, report), "read the mirror")
        async with _transaction(url) as connection:
            put = ParquetSource(path).batches(first - 1, last, LogFilter())
            events = await _apply(connection, "put_back", put, lambda position: report(last + position))
            await _record(connection, "events_put_back", last, events, {"mirror": place.mirror})
    return Moved(place.mirror, events, last)


def _export(url: str, old: PositionRange, path: Path, report: Report) -> None:
    """Write the file; on return it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_batches(path, DatabaseSource(url, partial=True).batches(old.first - 1, old.last, LogFilter()), report)


async def _apply(connection: Connection, statement: str, batches: Iterator[pa.RecordBatch], report: Report) -> int:
    """Call a statement with all events, a batch at a time, and return the sum of its answers."""
    changed = 0
    async with aclosing(in_turn(batches, statement)) as read:
        async for batch in read:
            if batch.num_rows:
                changed += await connection.fetchval(query("retention", statement), list(_rows(batch)))
                report(batch.column("position")[-1].as_py())
    return changed


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    """Return the events of a batch as rows of `event_log`."""
    return (msgspec.structs.astuple(event)[:-1] for event in events_of(batch))


def _of_file(path: Path) -> dict[str, str]:
    """Return what an event tells of a file."""
    with path.open("rb") as file:
        return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


async def _record(connection: Connection, kind: str, upto: int, events: int, about: Mapping[str, str]) -> None:
    details = {"upto": upto, "events": events, **about}
    await connection.fetch(query("retention", "record"), kind, SOURCE, details)


@asynccontextmanager
async def _transaction(url: str) -> AsyncIterator[Connection]:
    try:
        async with owner_connection(url) as connection, connection.transaction():
            yield connection
    except asyncpg.PostgresError as error:
        if error.sqlstate == NOT_AS_EXPORTED:
            raise MaintenanceError(told(error)) from None
        raise
