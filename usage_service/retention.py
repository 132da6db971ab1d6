"""Old events leave the log for Parquet files, and come back from them, each exactly as it was."""

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
    """Events that left the log for a file or came back from it: how many, up to which position."""

    path: Path
    events: int
    upto: int


class Span(NamedTuple):
    """The positions of a part of the log, both included."""

    first: int
    last: int


async def find_span(connection: Connection, before: datetime) -> Span | None:
    """The beginning of the log that was recorded before an instant, if there is any."""
    [(first, last)] = await connection.fetch(query("retention", "span"), before)
    return None if first is None else Span(first, last)


async def drop_old(url: str, span: Span, directory: Path, report: Report) -> Moved:
    """Exports a part of the log to `directory`, reads that back, and drops what the log holds just so: all or nothing.

    Reports each position twice. Raises MaintenanceError where a projection has not folded it yet; LogReadError.
    """
    path = directory / f"events-{span.first}-{span.last}.parquet"
    half = span.last - span.first + 1
    await asyncio.to_thread(_export, url, span, path, lambda position: report(position - span.first + 1))
    async with _transaction(url) as connection:
        events = await _apply(connection, "drop", path, lambda position: report(half + position - span.first + 1))
        await _record(connection, "events_dropped", path, span.last, events)
    return Moved(path, events, span.last)


async def put_back(url: str, path: Path, report: Report) -> Moved:
    """Puts back what was dropped after it was exported to `path`; what is there is passed over. Reports positions.

    Raises MaintenanceError where the file holds anything else; LogReadError.
    """
    end = await asyncio.to_thread(ParquetSource(path).end)
    async with _transaction(url) as connection:
        events = await _apply(connection, "put_back", path, report)
        if events:
            await _record(connection, "events_put_back", path, end, events)
    return Moved(path, events, end)


def _export(url: str, span: Span, path: Path, report: Report) -> None:
    """Writes the file and waits until it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_batches(path, DatabaseSource(url, partial=True).batches(span.first - 1, span.last, LogFilter()), report)
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    sync_directory(path.parent)


async def _apply(connection: Connection, statement: str, path: Path, report: Report) -> int:
    """Calls a statement with all events of a file, a batch at a time; the sum of what it answers."""
    changed = 0
    batches = ParquetSource(path).batches(0, await asyncio.to_thread(ParquetSource(path).end), LogFilter())
    while (batch := await asyncio.to_thread(next, batches, None)) is not None:
        changed += await connection.fetchval(query("retention", statement), list(_rows(batch)))
        report(batch.column("position")[-1].as_py())
    return changed


def _rows(batch: pa.RecordBatch) -> Iterator[tuple[object, ...]]:
    """Rows of `event_log`."""
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
