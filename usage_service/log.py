"""The event log: immutable, in the order of positions, written only by the SQL function append_events()."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

import msgspec

from usage_service.shared.postgres import Connection

APPEND_SECONDS = 10.0
Outcome = Literal["recorded", "duplicate", "conflict"]


class Record(NamedTuple):
    """An event ready to be appended, in the order of append_events()'s parameters."""

    event_id: UUID
    type: str
    schema_version: int
    occurred_at: datetime
    visitor: UUID | None
    product: str | None
    channel: str | None
    probe: str | None
    source: str
    data: msgspec.Raw
    digest: UUID


class Appended(NamedTuple):
    """Where an event is in the log: its own position, or that of the one recorded under its id before."""

    position: int
    outcome: Outcome


async def append(connection: Connection, records: Sequence[Record]) -> list[Appended]:
    """Appends in one transaction, committed on return; an answer for each record, in order."""
    rows = await connection.fetch(
        "SELECT log_position, outcome FROM append_events($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
        *(list(column) for column in zip(*records, strict=True)),
        timeout=APPEND_SECONDS,
    )
    return [Appended(row["log_position"], row["outcome"]) for row in rows]
