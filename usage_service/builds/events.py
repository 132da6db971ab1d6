"""Events of a build, as the log has them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from usage_service.builds.requests import PENDING
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
    """Next events of a build, and the position that they go up to, though some were dropped from the log.

    `over` when none can follow them, unless somebody retries the build.
    """

    events: list[BuildEvent]
    upto: int
    over: bool


async def read_story(pool: Pool, build_id: UUID, after: int) -> Story | None:
    """Return at most a thousand events of a build after a position, or None when there is no such build."""
    async with pool.acquire(timeout=5) as connection:
        rows = await connection.fetch(query("builds", "events"), str(build_id), after, MOST_AT_ONCE)
    if not rows:
        return None
    state, last = rows[0]["state"], rows[0]["log_position"]
    events = [msgspec.convert(dict(row), BuildEvent) for row in rows if row["position"] is not None]
    upto = events[-1].position if len(events) == MOST_AT_ONCE else max(after, last)
    return Story(events, upto, state not in PENDING and last <= upto)
