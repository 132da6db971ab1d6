"""Nights: lists of probes, built in as few warehouse jobs as possible. Requesting, cancelling and finding them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

import msgspec

from usage_service.builds.requests import BuildError, State
from usage_service.cursors import InstantCursor, microseconds_of
from usage_service.queries import query
from usage_service.shared.postgres import Connection, Pool, at_one_instant

NightState = Literal["planning", "running", "over"]
Outcome = Literal["listed", "left", "pending", "fresh", "unknown", "unbuildable", "excluded"]
JobState = Literal["queued", "running", "done", "split", "failed", "cancelled"]
MOST_PROBES = 1_000
# Why a probe of a night was not built, or is not yet, by its outcome.
REASONS: Mapping[Outcome, str] = {
    "left": "it does not fit into the bytes that the night may read",
    "pending": "a build of it was under way already",
    "fresh": "it was built since the last run of the ETL",
    "unknown": "the catalogue has no such probe",
    "unbuildable": "probes of its type are not aggregated",
    "excluded": "it is excluded by an operator",
}


class NightTotals(msgspec.Struct, frozen=True):
    """Numbers of a night: its probes by what became of them, its jobs, and the bytes that they read and are to read.

    `to_build` are still to come, `probes_left` do not fit into the night's bytes, `not_needed` were not to be built.
    """

    probes: int
    to_build: int
    built: int
    without_data: int
    failed: int
    cancelled: int
    probes_left: int
    not_needed: int
    jobs: int
    jobs_over: int
    bytes: int
    expected_bytes: int


class Night(msgspec.Struct, frozen=True):
    """State of a night: a builder plans it, then its jobs run, then it is over.

    `most_bytes` is what it may read; null is what is left of the day. `seconds_left` is null while it cannot be told.
    """

    night_id: UUID
    product: str
    channel: str
    source: str
    state: NightState
    run_date: date
    most_bytes: int | None
    error: BuildError | None
    requested_at: datetime
    finished_at: datetime | None
    totals: NightTotals
    seconds_left: int | None

    @property
    def over(self) -> bool:
        """Return whether nothing of it is to come any more."""
        return self.state == "over"


class SharedJob(msgspec.Struct, frozen=True):
    """Warehouse job of a night that reads several probes together; `split` when it failed and its halves are jobs."""

    job_id: UUID
    split_from: UUID | None
    state: JobState
    probes: int
    attempt: int
    max_attempts: int
    stage: str | None
    percent: int | None
    expected_bytes: int | None
    bytes: int | None
    error: BuildError | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class NightWithJobs(Night, frozen=True, kw_only=True):
    """A night with its jobs, those queued first before others; of more than a thousand the newest."""

    jobs: list[SharedJob]


class NightProbe(msgspec.Struct, frozen=True):
    """Probe of a night, and the state of its build.

    `requests` are expected a day, null when nobody said. `bytes` is what it adds to its job. `reason` says why it was
    not built, null when it was or is to be.
    """

    place: int
    probe: str
    outcome: Outcome
    requests: float | None
    bytes: int | None
    build_id: UUID | None
    state: State | None
    rows: int | None
    finished_at: datetime | None
    reason: str | None


class NightRequest(NamedTuple):
    """Probes to build in a night, the requests expected a day for each (None: not known), and the bytes it may read."""

    product: str
    channel: str
    probes: Sequence[str]
    requests: Sequence[float | None]
    most_bytes: int | None


class RequestedNight(NamedTuple):
    """Night that was asked for, whether it is new, and the number of its probes with each outcome."""

    night_id: UUID
    is_new: bool
    outcomes: dict[Outcome, int]


class NightFilter(msgspec.Struct, frozen=True):
    """Filter of the nights to list; a field that is None matches all."""

    state: NightState | None = None
    product: str | None = None
    channel: str | None = None


class NightCursor(InstantCursor, frozen=True):
    """Cursor at the last night of a page."""

    night_id: UUID


class NightPage(NamedTuple):
    """Nights of a page, the cursor of the next page if there is one, and the end of the log when they were read."""

    nights: list[Night]
    following: NightCursor | None
    log_end: int


class NightsUnderWay(NamedTuple):
    """Nights of a state that are not over, the probes they are to build still, and how long ago, in seconds.

    The first was requested, and the one that has been still for longest made progress.
    """

    state: NightState
    nights: int
    to_build: int
    oldest_seconds: float
    idle_seconds: float


async def request_night(connection: Connection, wanted: NightRequest, source: str) -> RequestedNight:
    """Request a night; while one of the channel is under way, that one is answered."""
    async with connection.transaction():
        row = await connection.fetchrow(query("nights", "requested"), *wanted, source)
        assert row is not None
        counted = await connection.fetch(query("nights", "outcomes"), row["night_id"])
    return RequestedNight(row["night_id"], row["is_new"], {one["outcome"]: one["probes"] for one in counted})


async def cancel_night(connection: Connection, night_id: UUID, source: str) -> NightState | None:
    """Cancel a night; return the state that it was in before, or None when there is no such night."""
    state: NightState | None = await connection.fetchval(query("nights", "cancelled"), night_id, source)
    return state


async def find_nights(connection: Connection, night_ids: Collection[UUID]) -> list[NightWithJobs]:
    """Return the nights with these ids, without those that do not exist."""
    asked = (*msgspec.structs.astuple(NightFilter()), None, None, list(night_ids), len(night_ids))
    rows = await connection.fetch(query("nights", "page"), *asked)
    jobs: dict[UUID, list[dict[str, Any]]] = {row["night_id"]: [] for row in rows}
    for job in await connection.fetch(query("nights", "jobs"), list(jobs)):
        jobs[job["night_id"]].append(dict(job))
    return [msgspec.convert(dict(row) | {"jobs": jobs[row["night_id"]]}, NightWithJobs) for row in rows]


async def find_night(connection: Connection, night_id: UUID) -> NightWithJobs | None:
    """Return the night of this id, or None."""
    found = await find_nights(connection, [night_id])
    return found[0] if found else None


async def read_nights(pool: Pool, only: NightFilter, limit: int, after: NightCursor | None = None) -> NightPage:
    """Return up to `limit` nights that come after a cursor, newest first."""
    position = (after.instant, after.night_id) if after else (None, None)
    async with at_one_instant(pool) as connection:
        log_end = await connection.fetchval(query("log", "end"))
        asked = (*msgspec.structs.astuple(only), *position, None, limit + 1)
        rows = await connection.fetch(query("nights", "page"), *asked)
    nights = [msgspec.convert(dict(row), Night) for row in rows]
    return NightPage(nights[:limit], _cursor(nights[limit - 1]) if len(nights) > limit else None, log_end)


async def night_probes(
    connection: Connection, night_id: UUID, outcome: Outcome | None, after: int, limit: int
) -> list[NightProbe]:
    """Return up to `limit` probes of a night, those after a place in its list."""
    rows = await connection.fetch(query("nights", "probes"), night_id, outcome, after, limit)
    return [_probe(dict(row)) for row in rows]


async def nights_under_way(connection: Connection) -> list[NightsUnderWay]:
    """Return the nights that are not over in numbers, by their state."""
    return [NightsUnderWay(*row) for row in await connection.fetch(query("nights", "under_way"))]


def _probe(row: dict[str, Any]) -> NightProbe:
    error = row.pop("error")
    is_failed = row["state"] == "failed" and error
    return msgspec.convert(row | {"reason": error["message"] if is_failed else REASONS.get(row["outcome"])}, NightProbe)


def _cursor(night: Night) -> NightCursor:
    return NightCursor(microseconds_of(night.requested_at), night.night_id)
