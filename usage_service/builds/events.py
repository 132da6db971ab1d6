"""Events of a build, as the log has them."""

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
    """A transition of a build, or its progress."""

    position: int
    type: str
    occurred_at: datetime
    data: dict[str, Any]


class Story(NamedTuple):
    """Next events of a build; `over` when none can follow them, unless somebody retries the build."""

    events: list[BuildEvent]
    over: bool


async def read_story(pool: Pool, build_id: UUID, after: int) -> Story | None:
    """Return at most a thousand events of a build after a position, or None when there is no such build."""
    async with pool.acquire(timeout=5) as connection:
        rows = await connection.fetch(query("builds", "events"), str(build_id), after, MOST_AT_ONCE)
        build = await find_build(connection, build_id)  # after the events, so that its state is not older than they are
    if build is None:
        return None
    events = [msgspec.convert(dict(row), BuildEvent) for row in rows]
    last = events[-1].position if events else after
    return Story(events, not build.pending and build.log_position <= last)
