"""The queue of builds in numbers."""

from __future__ import annotations

import msgspec

from usage_service.builds.requests import State
from usage_service.queries import query
from usage_service.shared.postgres import Connection


class QueueState(msgspec.Struct, frozen=True):
    """How many builds are in a state, what they cost so far, and how long the oldest could have been claimed."""

    state: State
    prefetched: bool
    builds: int
    attempts: int
    bytes: float
    oldest_seconds: float


async def queue_states(connection: Connection) -> list[QueueState]:
    """Those states that there are builds in; of builds that are over only the last day's are counted."""
    rows = await connection.fetch(query("builds", "queue"))
    return [msgspec.convert(dict(row), QueueState) for row in rows]
