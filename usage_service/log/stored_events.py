"""Events as the log holds them, and the upcasting of older schema versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Meta

from usage_service.events import EVENT_TYPES, Data, Instant

JsonObject = dict[str, Any]
LARGEST_POSITION = 2**62

# The functions that change the data of a type and version into that of the next version. A type whose data changes gets
# a new `schema_version` and an entry here; stored events stay as they were.
UPCASTS: dict[tuple[str, int], Callable[[JsonObject], JsonObject]] = {}


class StoredEvent(msgspec.Struct, frozen=True):
    """An event as it is read and exported; `late` when it was recorded more than 24 h after it occurred."""

    position: Annotated[int, Meta(ge=1, le=LARGEST_POSITION)]
    event_id: UUID
    type: str
    schema_version: Annotated[int, Meta(ge=1, le=2**15 - 1)]
    occurred_at: Instant
    recorded_at: Instant
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
        data, kind = self.current_data(), EVENT_TYPES.get(self.type)
        return data if kind is None else msgspec.convert(data, kind.data_type())

    def current_data(self) -> JsonObject:
        """Return the event's own fields as the type's current version has them, without a look at what they hold."""
        data = msgspec.json.decode(self.data, type=JsonObject)
        kind = EVENT_TYPES.get(self.type)
        for version in range(self.schema_version, kind.schema_version if kind else self.schema_version):
            data = UPCASTS[self.type, version](data)
        return data
