"""Lists of builds, newest first, a page at a time; and the queue of builds in numbers."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import msgspec

from usage_service.builds.requests import Build, State
from usage_service.cursors import InstantCursor, microseconds_of
from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool, at_one_instant


class BuildFilter(msgspec.Struct, frozen=True):
    """Filter of the builds to list; a field that is None matches all."""

    state: State | None = None
    product: str | None = None
    channel: str | None = None
    probe: str | None = None


class BuildCursor(InstantCursor, frozen=True):
    """Cursor at the last build of a page. The instant of a request never changes, so what follows stays the same."""

    build_id: UUID


class BuildPage(NamedTuple):
    """Builds of a page, the cursor of the next page if there is one, and the end of the log when they were read."""

    builds: list[Build]
    following: BuildCursor | None
    log_end: int


class QueueState(msgspec.Struct, frozen=True):
    """Builds in a state: their number, attempts and bytes read; how long ago the oldest could have been claimed."""

    state: State
    prefetched: bool
    builds: int
    attempts: int
    bytes: float
    oldest_seconds: float


class BuilderState(NamedTuple):
    """Builders that are alive, and how long ago one last showed life; None where none did for a day."""

    alive: int
    last_seen_seconds: float | None


async def builder_state(connection: Connection) -> BuilderState:
    """Return what is known of the builders."""
    [row] = await connection.fetch(query("builds", "builders"))
    return BuilderState(*row)


class QueuePlace(NamedTuple):
    """Number of builds that are claimed before a build, and the seconds that one of them and itself take, if known."""

    ahead: int
    typical_seconds: float | None
    own_seconds: float | None


async def queue_place(connection: Connection, build_id: UUID) -> QueuePlace:
    """Return the place of a build in the queue."""
    [row] = await connection.fetch(query("builds", "waiting"), build_id)
    return QueuePlace(*row)


async def queue_states(connection: Connection) -> list[QueueState]:
    """Return the states that any build is in; of builds that are over only the last day's are counted."""
    rows = await connection.fetch(query("builds", "queue"))
    return [msgspec.convert(dict(row), QueueState) for row in rows]


async def read_page(pool: Pool, only: BuildFilter, limit: int, after: BuildCursor | None) -> BuildPage:
    """Return up to `limit` builds that come after a cursor, newest first."""
    position = (after.instant, after.build_id) if after else (None, None)
    async with at_one_instant(pool) as connection:
        log_end = await connection.fetchval(query("log", "end"))
        rows = await connection.fetch(query("builds", "page"), *msgspec.structs.astuple(only), *position, limit + 1)
    builds = [msgspec.convert(dict(row), Build) for row in rows]
    return BuildPage(builds[:limit], _cursor(builds[limit - 1]) if len(builds) > limit else None, log_end)


def _cursor(build: Build) -> BuildCursor:
    return BuildCursor(microseconds_of(build.requested_at), build.build_id)
