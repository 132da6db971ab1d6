"""What happened to a build, as the log has it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from usage_service.builds.requests import find_build
from usage_service.queries import query
from usage_service.shared.postgres import Pool

MOST_AT_ONCE = 1_000


class BuildEvent(msgspec.Struct, frozen=True):
    """A transition of a build, or how far it is."""

    position: int
    type: str
    occurred_at: datetime
    data: dict[str, Any]


class Story(NamedTuple):
    """The next events of a build, and whether none can follow them (unless somebody retries it)."""

    events: list[BuildEvent]
    over: bool


async def read_story(pool: Pool, build_id: UUID, after: int) -> Story | None:
    """The events of a build after a position, at most a thousand; None where there is no such build."""
    async with pool.acquire(timeout=5) as connection:
        rows = await connection.fetch(query("builds", "events"), str(build_id), after, MOST_AT_ONCE)
        build = await find_build(connection, build_id)  # after the events: what it has seen, they may have not
    if build is None:
        return None
    events = [msgspec.convert(dict(row), BuildEvent) for row in rows]
    last = events[-1].position if events else after
    return Story(events, not build.pending and build.log_position <= last)
