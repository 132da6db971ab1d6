"""Builds: asking for a probe's aggregates and following how they come about."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection

PENDING = frozenset({"queued", "running"})
FIRST_GUESS_SECONDS = 2.0


class BuildError(msgspec.Struct, frozen=True):
    """Why the last attempt failed."""

    code: str
    message: str


class Build(msgspec.Struct, frozen=True):
    """The state of a build. `stage`, `percent` and `bytes` (read by the warehouse) tell how far it is."""

    build_id: UUID
    product: str
    channel: str
    probe: str
    metric_type: str
    state: Literal["queued", "running", "succeeded", "no_data", "failed", "cancelled"]
    attempt: int
    max_attempts: int
    stage: str | None
    percent: int | None
    bytes: int | None
    rows: int | None
    error: BuildError | None
    requested_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    log_position: int

    @property
    def pending(self) -> bool:
        """Whether its result is still to come."""
        return self.state in PENDING


class Requested(msgspec.Struct, frozen=True):
    """What became of a request for a build; the last three have no build."""

    outcome: Literal["created", "pending", "fresh", "unknown", "unbuildable", "excluded"]
    build_id: UUID | None
    metric_type: str | None


async def request_build(connection: Connection, product: str, channel: str, probe: str, source: str) -> Requested:
    """Asks for a probe's aggregates; the same build is answered while one is under way or fresh."""
    row = await connection.fetchrow(query("builds", "requested"), product, channel, probe, source)
    return msgspec.convert(dict(row or {}), Requested)


async def find_build(connection: Connection, build_id: UUID) -> Build | None:
    """The build of this id, if there is one."""
    row = await connection.fetchrow(query("builds", "one"), build_id)
    return msgspec.convert(dict(row), Build) if row else None


async def near_names(connection: Connection, product: str, probe: str) -> list[str]:
    """Up to five probes of the catalogue whose name is most like this one (trigrams)."""
    rows = await connection.fetch(query("builds", "near_names"), product, probe)
    return [row["probe"] for row in rows]


async def seconds_left(connection: Connection, build: Build, now: datetime) -> int:
    """When to look again: what such builds took lately less what this one has already waited, 1 to 60 s."""
    typical: Any = await connection.fetchval(query("builds", "typical_seconds"), build.metric_type)
    waited = (now - build.requested_at).total_seconds()
    return round(min(60.0, max(1.0, float(typical if typical is not None else FIRST_GUESS_SECONDS) - waited)))
