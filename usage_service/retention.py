"""Retention: old events leave the log for Parquet files, and come back from them, each exactly as it was."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec
import pyarrow as pa

from usage_service.log.batches import events_of
from usage_service.log.exported import ParquetSource
from usage_service.log.exports import write_batches
from usage_service.log.reading import LogFilter
from usage_service.log.sources import DatabaseSource
from usage_service.projections.rebuilding import MaintenanceError, owner_connection, told
from usage_service.queries import query
from usage_service.shared.files import sync_directory
from usage_service.shared.postgres import Connection
from usage_service.shared.progress import Report

NOT_AS_EXPORTED = "UB006"
SOURCE = "retention"


class Moved(NamedTuple):
    """A move of events from the log to a file or back: the file, how many events, and the last position."""

    path: Path
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

    Report each position twice. Raise MaintenanceError where a projection has not folded the events yet, and
    LogReadError where they cannot be exported.
    """
    path = directory / f"events-{old.first}-{old.last}.parquet"
    half = old.last - old.first + 1
    await asyncio.to_thread(_export, url, old, path, lambda position: report(position - old.first + 1))
    async with _transaction(url) as connection:
        events = await _apply(connection, "drop", path, lambda position: report(half + position - old.first + 1))
        await _record(connection, "events_dropped", path, old.last, events)
    return Moved(path, events, old.last)


async def put_back(url: str, path: Path, report: Report) -> Moved:
    """Put the events that were dropped after their export to `path` back into the log, and report positions.

    Events that the log still holds are skipped. Raise MaintenanceError where the file holds any other event, and
    LogReadError where it cannot be read.
    """
    end = await asyncio.to_thread(ParquetSource(path).end)
    async with _transaction(url) as connection:
        events = await _apply(connection, "put_back", path, report)
        if events:
            await _record(connection, "events_put_back", path, end, events)
    return Moved(path, events, end)


def _export(url: str, old: PositionRange, path: Path, report: Report) -> None:
    """Write the file and wait until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_batches(path, DatabaseSource(url, partial=True).batches(old.first - 1, old.last, LogFilter()), report)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    sync_directory(path.parent)


async def _apply(connection: Connection, statement: str, path: Path, report: Report) -> int:
    """Call a statement with all events of a file, a batch at a time, and return the sum of its answers."""
    changed = 0
    batches = ParquetSource(path).batches(0, await asyncio.to_thread(ParquetSource(path).end), LogFilter())
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        changed += await connection.fetchval(query("retention", statement), list(_rows(batch)))
        report(batch.column("position")[-1].as_py())
    return changed


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    """Return the events of a batch as rows of `event_log`."""
    return (msgspec.structs.astuple(event)[:-1] for event in events_of(batch))


async def _record(connection: Connection, kind: str, path: Path, upto: int, events: int) -> None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    details = {"upto": upto, "events": events, "file": path.name, "sha256": digest}
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
