"""Appending to the log: immutable, in the order of positions, written only by the SQL function append_events()."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

from usage_service.ingest.visitors import VisitorKey
from usage_service.shared.postgres import Connection

APPEND_SECONDS = 10.0
Outcome = Literal["recorded", "duplicate", "conflict"]


class Record(NamedTuple):
    """An event ready to be appended."""

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


VISITOR_COLUMN = Record._fields.index("visitor")


class Appended(NamedTuple):
    """Where an event is in the log: its own position, or that of the one recorded under its id before."""

    position: int
    outcome: Outcome


def columns_of(records: Sequence[Record]) -> list[list[object]]:
    """The records as append_events() takes them: an array a parameter."""
    columns = [list(column) for column in zip(*records, strict=True)]
    visitors = columns[VISITOR_COLUMN]
    columns[VISITOR_COLUMN : VISITOR_COLUMN + 1] = [
        [visitor.lookup if isinstance(visitor, VisitorKey) else None for visitor in visitors],
        [visitor.epoch if isinstance(visitor, VisitorKey) else None for visitor in visitors],
    ]
    return columns


async def append(connection: Connection, records: Sequence[Record]) -> list[Appended]:
    """Appends in one transaction, committed on return; an answer for each record, in order."""
    rows = await connection.fetch(
        "SELECT log_position, outcome FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        *columns_of(records),
        timeout=APPEND_SECONDS,
    )
    return [Appended(*row) for row in rows]
