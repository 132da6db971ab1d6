"""Appends to the log, which is immutable, ordered by position, and written only by the function append_events()."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from usage_service.ingest.visitors import VisitorKey
from usage_service.queries import query
from usage_service.shared.postgres import Connection

APPEND_SECONDS = 10.0
REFUSED = (
    asyncpg.DataError,
    asyncpg.CheckViolationError,
    asyncpg.ProgramLimitExceededError,
)  # faults of an event's content
Outcome = Literal["recorded", "duplicate", "conflict"]


class Record(NamedTuple):
    """An event that is ready to be appended."""

    event_id: UUID
    type: str
    schema_version: int
    occurred_at: datetime
    visitor: VisitorKey | None
    product: str | None
    channel: str | None
    probe: str | None
    source: str
    data: msgspec.Raw
    digest: UUID
    # Not stored: pointers to what is stored otherwise than it was sent, and the id that was sent.
    masked: tuple[str, ...] = ()
    sent_id: UUID | None = None


NOT_STORED = 2
VISITOR_COLUMN = Record._fields.index("visitor")


class Appended(NamedTuple):
    """The position of an event in the log: its own, or that of the event recorded under its id before."""

    position: int
    outcome: Outcome


def columns_of(records: Sequence[Record]) -> list[list[object]]:
    """Return the records as append_events() takes them: an array for each parameter."""
    columns = [list(column) for column in zip(*records, strict=True)][:-NOT_STORED]
    visitors = columns[VISITOR_COLUMN]
    columns[VISITOR_COLUMN : VISITOR_COLUMN + 1] = [
        [visitor.lookup if isinstance(visitor, VisitorKey) else None for visitor in visitors],
        [visitor.epoch if isinstance(visitor, VisitorKey) else None for visitor in visitors],
    ]
    return columns


async def append(connection: Connection, records: Sequence[Record]) -> list[Appended]:
    """Append the records in one transaction, committed on return, and return an outcome for each, in order."""
    rows = await connection.fetch(query("log", "append"), *columns_of(records), timeout=APPEND_SECONDS)
    return [Appended(*row) for row in rows]
