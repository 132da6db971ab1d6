"""Builds of a probe's aggregates: requesting, cancelling, retrying and finding them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Literal, NamedTuple
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
    """Error of the last attempt that failed."""

    code: str
    message: str


class Delivery(msgspec.Struct, frozen=True):
    """Delivery of a build's rows to a sink, where builders have one. `error` is what keeps rows from getting there."""

    sink: str
    delivered: bool
    error: BuildError | None


class JobOfBuild(msgspec.Struct, frozen=True):
    """Warehouse job of a night that reads a build together with others, and how far it is."""

    job_id: UUID
    night_id: UUID
    state: Literal["queued", "running", "done", "split", "failed", "cancelled"]
    percent: int | None


class Build(msgspec.Struct, frozen=True):
    """State of a build. `stage`, `percent` and `bytes` (read by the warehouse) are its progress.

    `deliveries` tells of each place besides this service that gets the rows of a build that succeeded.
    A build that a shared job reads is queued until its rows are there; `shared_job` tells how far that is.
    """

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
    deliveries: list[Delivery]
    shared_job: JobOfBuild | None = None

    @property
    def pending(self) -> bool:
        """Return whether the result is still to come."""
        return self.state in PENDING

    @property
    def has_result(self) -> bool:
        """Return whether the build is done, even if too few clients sent the probe."""
        return self.state in WITH_RESULT


class Requested(msgspec.Struct, frozen=True):
    """Outcome of a request for a build; only the first five outcomes have a `build_id`."""

    outcome: Literal[
        "created", "pending", "fresh", "repeated", "over", "unknown", "unbuildable", "excluded", "mismatch", "limited"
    ]
    build_id: UUID | None
    metric_type: str | None


async def request_build(connection: Connection, product: str, channel: str, probe: str, source: str) -> Requested:
    """Request a build of a probe's aggregates; while one is pending or fresh, that one is answered."""
    return await _requested(connection, "requested", product, channel, probe, source)


async def request_build_once(
    connection: Connection, key: str, product: str, channel: str, probe: str, source: str
) -> Requested:
    """Request a build under an idempotency key.

    A request with a key that was used before has the outcome 'repeated' and the build of the first time, or 'mismatch'
    when the first one was for another probe.
    """
    return await _requested(connection, "requested_once", key, product, channel, probe, source)


class MissLimits(NamedTuple):
    """Limits of a UTC day: the builds that a visitor's misses may start, and the bytes after which none is started."""

    builds_each: int
    bytes_read: int


async def request_missed_build(
    connection: Connection,
    product: str,
    channel: str,
    probe: str,
    visitor: UUID | None,
    limits: MissLimits,
    source: str,
) -> Requested:
    """Request a build because its data was asked for and not there.

    The outcome is 'limited' when a limit is reached and there is no build to join, and 'over' with the build of the day
    that failed or was cancelled, which is not repeated. Requests without a visitor share one limit.
    """
    return await _requested(connection, "requested_by_miss", product, channel, probe, visitor, *limits, source)


async def _requested(connection: Connection, statement: str, *values: object) -> Requested:
    """Run a statement that requests a build; a build that it creates joins this trace, an older one is linked to it."""
    with span("request build") as made:
        row = await connection.fetchrow(query("builds", statement), *values, traceparent())
        requested = msgspec.convert(dict(row or {}), Requested)
        if is_traced() and requested.build_id is not None:
            made.set_attributes({"build.id": str(requested.build_id), "build.outcome": requested.outcome})
            if requested.outcome != "created":
                link(made, await connection.fetchval(query("builds", "traceparent"), requested.build_id))
    return requested


async def cancel_build(connection: Connection, build_id: UUID, source: str) -> State | None:
    """Cancel a pending build; return the state that the build was in before, or None when there is no such build."""
    state: State | None = await connection.fetchval(query("builds", "cancelled"), build_id, source)
    return state


async def retry_build(
    connection: Connection, build_id: UUID, source: str
) -> Literal["queued", "under_way", "not_failed", "unknown"]:
    """Queue a failed build again, with as many attempts as before.

    Return 'under_way' when another build of the same probe is pending.
    """
    outcome: Literal["queued", "under_way", "not_failed", "unknown"]
    outcome = await connection.fetchval(query("builds", "retried"), build_id, source)
    return outcome


async def find_build(connection: Connection, build_id: UUID) -> Build | None:
    """Return the build of this id, or None."""
    found = await find_builds(connection, [build_id])
    return found[0] if found else None


async def find_builds(connection: Connection, build_ids: Collection[UUID]) -> list[Build]:
    """Return the builds with these ids, without those that do not exist."""
    rows = await connection.fetch(query("builds", "some"), list(build_ids))
    return [msgspec.convert(dict(row), Build) for row in rows]


async def near_names(connection: Connection, product: str, probe: str) -> list[str]:
    """Return up to five probes of the catalogue with the most similar names (by trigrams)."""
    rows = await connection.fetch(query("builds", "near_names"), product, probe)
    return [row["probe"] for row in rows]


async def seconds_left(connection: Connection, build: Build) -> int:
    """Return the seconds after which to poll a pending build again, 1 to 60.

    They are what such builds took lately, less what this one has waited; of one that a night's job reads, what is left
    of that job.
    """
    seconds: int | None = await connection.fetchval(
        query("builds", "seconds_left"), build.build_id, FIRST_GUESS_SECONDS
    )
    return seconds or 1
