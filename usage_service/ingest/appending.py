"""Appends to the log, which is immutable and ordered by position.

Nearly always all events are new: append_new_events() records them for half of the cost, or none. What it does not take,
append_events() judges event by event.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from datetime import datetime
from typing import Literal, NamedTuple, TypeVar
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
Item = TypeVar("Item", bound=Hashable)


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


def new_columns_of(records: Sequence[Record]) -> list[Sequence[object]]:
    """Return the records as append_new_events() takes them: what many have alike is given once, and by its number."""
    (event_ids, types, versions, occurred, visitors, products, channels, probes, sources, payloads, digests, *_) = zip(
        *records, strict=True
    )
    kinds = list(zip(types, versions, products, channels, sources, strict=True))
    kind_numbers = _numbered(kinds)
    person_numbers: dict[VisitorKey | None, int | None] = {**_numbered(filter(None, visitors)), None: None}
    persons = [visitor for visitor in person_numbers if visitor]
    return [
        event_ids,
        [kind_numbers[kind] for kind in kinds],
        occurred,
        [person_numbers[visitor] for visitor in visitors],
        probes,
        payloads,
        digests,
        *zip(*kind_numbers, strict=True),
        [visitor.lookup for visitor in persons],
        [visitor.epoch for visitor in persons],
    ]


def _numbered(items: Iterable[Item]) -> dict[Item, int]:
    return {item: number for number, item in enumerate(dict.fromkeys(items), 1)}


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
    """Append the records, committed on return, and return an outcome for each, in order."""
    first = await connection.fetchval(query("log", "append_new"), *new_columns_of(records), timeout=APPEND_SECONDS)
    if first is not None:
        return [Appended(position, "recorded") for position in range(first, first + len(records))]
    rows = await connection.fetch(query("log", "append"), *columns_of(records), timeout=APPEND_SECONDS)
    return [Appended(*row) for row in rows]
