"""Reads of the log from a position on, in ranges of positions, as lines of JSON in bounded memory.

Each range is read whole before it is sent, so that a slow reader holds no transaction open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool

RANGE_POSITIONS = 10_000
# COPY's CSV with a delimiter and a quote that JSON text never holds leaves the text as it is.
DELIMITER, QUOTE = "\x02", "\x01"


class LogFilter(msgspec.Struct, frozen=True):
    """The filter of a reading; a field that is None lets all events pass. Times are those of the events."""

    types: tuple[str, ...] | None = None
    product: str | None = None
    visitor: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def name(self) -> str:
        """Return the prefix of the statements in `log.sql` that read with this filter."""
        return "" if self == LogFilter() else "filtered_"

    def settings(self, after: int, upto: int, limit: int | None) -> list[str]:
        """Return the settings of a transaction that reads a range, as the statements of `log.sql` take them."""
        return [
            str(after),
            str(upto),
            "" if limit is None else str(limit),
            ",".join(self.types or ()),
            self.product or "",
            str(self.visitor or ""),
            self.since.isoformat() if self.since else "",
            self.until.isoformat() if self.until else "",
        ]


async def log_end(pool: Pool) -> int:
    """Read the last position of the log."""
    async with pool.acquire(timeout=5) as connection:
        end: int = await connection.fetchval(query("log", "end"))
    return end


async def log_begin(pool: Pool) -> int:
    """Read the first position from which on the log holds every event: after those that were dropped."""
    async with pool.acquire(timeout=5) as connection:
        begin: int = await connection.fetchval(query("log", "begin"))
    return begin


async def whole_since(connection: Connection) -> datetime | None:
    """Return the instant from which on the log holds every event that occurred; None where none was dropped."""
    [row] = await connection.fetch(query("log", "whole"))
    since: datetime | None = row["instant"]
    return since


def was_dropped(begin: int) -> str:
    """Return the message for a reader that asks for events before the log's `begin`, and not for a partial log."""
    return (
        f"events up to position {begin - 1} were dropped, and are in the mirror of the log, which USAGE_SERVICE_MIRROR "
        "names, or in the files that `usage-service retention drop` wrote (events-*.parquet): read those, then the "
        f"log after {begin - 1}; or say `partial` for what is left"
    )


async def read_lines(
    pool: Pool, after: int, upto: int, only: LogFilter, limit: int | None = None
) -> AsyncIterator[tuple[bytes, int]]:
    """Read NDJSON a range at a time, with its number of events; end at `upto`, or after `limit` events."""
    while after < upto and limit != 0:
        range_end = min(after + RANGE_POSITIONS, upto)
        async with pool.acquire(timeout=5) as connection:
            lines, number = await _read_range(connection, only, only.settings(after, range_end, limit))
        if lines:
            yield lines, number
        limit = None if limit is None else limit - number
        after = range_end


async def _read_range(connection: Connection, only: LogFilter, settings: list[str]) -> tuple[bytes, int]:
    pieces: list[bytes] = []

    async def collect(piece: bytes) -> None:
        pieces.append(piece)

    async with connection.transaction():
        await connection.execute(query("log", "choose"), *settings)
        status = await connection.copy_from_query(
            query("log", f"{only.name}lines"), output=collect, format="csv", delimiter=DELIMITER, quote=QUOTE
        )
    return b"".join(pieces), int(status.removeprefix("COPY "))
