"""Events as the log holds them, and the upcasting of older schema versions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import msgspec

from usage_service.events import EVENT_TYPES, Data
from usage_service.queries import query
from usage_service.shared.postgres import Connection

RESTORE_SECONDS = 20.0
OTHER_EVENTS = "UB002"
JsonObject = dict[str, Any]

# The functions that change the data of a type and version into that of the next version. A type whose data changes gets
# a new `schema_version` and an entry here; stored events stay as they were.
UPCASTS: dict[tuple[str, int], Callable[[JsonObject], JsonObject]] = {}


class OtherEventsError(Exception):
    """The log holds other events at these positions; nothing was restored."""


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as it is read and exported; `late` when it was recorded more than 24 h after it occurred."""

    position: int
    event_id: UUID
    type: str
    schema_version: int
    occurred_at: datetime
    recorded_at: datetime
    visitor: UUID | None
    product: str | None
    channel: str | None
    probe: str | None
    source: str
    data: msgspec.Raw
    digest: UUID
    late: bool = False

    def typed_data(self) -> Data | JsonObject:
        """Return the event's own fields, of the current version: typed where the type is one of `EVENT_TYPES`."""
        data: JsonObject = msgspec.json.decode(self.data)
        kind = EVENT_TYPES.get(self.type)
        if kind is None:
            return data
        for version in range(self.schema_version, kind.schema_version):
            data = UPCASTS[self.type, version](data)
        return msgspec.convert(data, kind.data_type())


async def restore(connection: Connection, events: Sequence[StoredEvent]) -> int:
    """Put events back at their positions, and return how many were not there yet. Raise OtherEventsError."""
    columns = zip(*(msgspec.structs.astuple(event)[:-1] for event in events), strict=True)
    try:
        restored: int = await connection.fetchval(
            query("log", "restore"), *(list(column) for column in columns), timeout=RESTORE_SECONDS
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate in (OTHER_EVENTS, asyncpg.UniqueViolationError.sqlstate):
            raise OtherEventsError(str(error)) from None
        raise
    return restored
