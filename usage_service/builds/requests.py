"""Builds: asking for a probe's aggregates and following how they come about."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from usage_service.queries import query
from usage_service.shared.postgres import Connection
from usage_service.shared.tracing import is_traced, link, span, traceparent

State = Literal["queued", "running", "succeeded", "no_data", "failed", "cancelled"]
PENDING = frozenset({"queued", "running"})
WITH_RESULT = frozenset({"succeeded", "no_data"})
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
    state: State
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

    @property
    def has_result(self) -> bool:
        """Whether it was computed, be it that too few clients sent the probe."""
        return self.state in WITH_RESULT


class Requested(msgspec.Struct, frozen=True):
    """What became of a request for a build; only the first four have one."""

    outcome: Literal["created", "pending", "fresh", "repeated", "unknown", "unbuildable", "excluded", "mismatch"]
    build_id: UUID | None
    metric_type: str | None


async def request_build(
    connection: Connection, product: str, channel: str, probe: str, source: str, *, prefetch: bool = False
) -> Requested:
    """Asks for a probe's aggregates; the same build is answered while one is under way or fresh.

    With `prefetch` nobody waits for it: it is built after those that somebody waits for.
    """
    return await _requested(connection, "requested", product, channel, probe, source, prefetch)


async def request_build_once(
    connection: Connection, key: str, product: str, channel: str, probe: str, source: str
) -> Requested:
    """The same under a key: 'repeated' is the build of the first time; 'mismatch' when that asked for another."""
    return await _requested(connection, "requested_once", key, product, channel, probe, source)


async def _requested(connection: Connection, statement: str, *values: object) -> Requested:
    """The attempts at a build that is created belong to this trace; one that there is already is only linked to."""
    with span("request build") as made:
        row = await connection.fetchrow(query("builds", statement), *values, traceparent())
        requested = msgspec.convert(dict(row or {}), Requested)
        if is_traced() and requested.build_id is not None:
            made.set_attributes({"build.id": str(requested.build_id), "build.outcome": requested.outcome})
            if requested.outcome != "created":
                link(made, await connection.fetchval(query("builds", "traceparent"), requested.build_id))
    return requested


async def cancel_build(connection: Connection, build_id: UUID, source: str) -> State | None:
    """Cancels a build that is not over; the state that it was in before, or None where there is none."""
    state: State | None = await connection.fetchval(query("builds", "cancelled"), build_id, source)
    return state


async def retry_build(
    connection: Connection, build_id: UUID, source: str
) -> Literal["queued", "under_way", "not_failed", "unknown"]:
    """Queues a failed build again, with as many attempts as before; 'under_way' when another of its probe is."""
    outcome: Literal["queued", "under_way", "not_failed", "unknown"]
    outcome = await connection.fetchval(query("builds", "retried"), build_id, source)
    return outcome


async def find_build(connection: Connection, build_id: UUID) -> Build | None:
    """The build of this id, if there is one."""
    found = await find_builds(connection, [build_id])
    return found[0] if found else None


async def find_builds(connection: Connection, build_ids: Collection[UUID]) -> list[Build]:
    """Those builds of these ids that there are."""
    rows = await connection.fetch(query("builds", "some"), list(build_ids))
    return [msgspec.convert(dict(row), Build) for row in rows]


async def near_names(connection: Connection, product: str, probe: str) -> list[str]:
    """Up to five probes of the catalogue whose name is most like this one (trigrams)."""
    rows = await connection.fetch(query("builds", "near_names"), product, probe)
    return [row["probe"] for row in rows]


async def seconds_left(connection: Connection, build: Build) -> int:
    """When to look again at a pending build, 1 to 60 s: what such builds took lately less what it has waited."""
    seconds: int | None = await connection.fetchval(
        query("builds", "seconds_left"), build.build_id, FIRST_GUESS_SECONDS
    )
    return seconds or 1
