"""Reading the log from a position on, in spans: as lines of JSON or as Arrow record batches, in bounded memory.

Each span is read whole before it is sent, so that a slow reader holds no transaction open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool

SPAN_POSITIONS = 10_000
# COPY's CSV with a delimiter and a quote that JSON text never holds leaves the text as it is.
DELIMITER, QUOTE = "\x02", "\x01"


class LogFilter(msgspec.Struct, frozen=True):
    """Which events to read; what is None is not filtered by. Times are those of the events."""

    types: tuple[str, ...] | None = None
    product: str | None = None
    visitor: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None

    @property
    def name(self) -> str:
        """Which form of the statements reads with this filter."""
        return "" if self == LogFilter() else "filtered_"

    def settings(self, after: int, upto: int, limit: int | None) -> list[str]:
        """The settings of a transaction that reads a span, as the statements of `log.sql` have them."""
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
    """The last position of the log."""
    async with pool.acquire(timeout=5) as connection:
        end: int = await connection.fetchval(query("log", "end"))
    return end


async def log_begin(pool: Pool) -> int:
    """The first position from which on the log holds every event: after those that were dropped."""
    async with pool.acquire(timeout=5) as connection:
        begin: int = await connection.fetchval(query("log", "begin"))
    return begin


def was_dropped(begin: int) -> str:
    """What a reader is told who asks for events before the log's `begin`, without having said that a part will do."""
    return (
        f"events up to position {begin - 1} were dropped, and are in the files that `usage-service retention drop` "
        f"wrote (events-*.parquet): read those, then the log after {begin - 1}; or say `partial` for what is left"
    )


async def read_lines(
    pool: Pool, after: int, upto: int, only: LogFilter, limit: int | None = None
) -> AsyncIterator[tuple[bytes, int]]:
    """NDJSON a span at a time, and how many events each holds; ends at `upto`, or after `limit` events."""
    while after < upto and limit != 0:
        span_end = min(after + SPAN_POSITIONS, upto)
        async with pool.acquire(timeout=5) as connection:
            lines, number = await _read_span(connection, only, only.settings(after, span_end, limit))
        if lines:
            yield lines, number
        limit = None if limit is None else limit - number
        after = span_end


async def _read_span(connection: Connection, only: LogFilter, settings: list[str]) -> tuple[bytes, int]:
    pieces: list[bytes] = []

    async def collect(piece: bytes) -> None:
        pieces.append(piece)

    async with connection.transaction():
        await connection.execute(query("log", "chosen"), *settings)
        status = await connection.copy_from_query(
            query("log", f"{only.name}lines"), output=collect, format="csv", delimiter=DELIMITER, quote=QUOTE
        )
    return b"".join(pieces), int(status.removeprefix("COPY "))
