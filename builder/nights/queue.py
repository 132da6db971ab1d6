"""Nights and their shared jobs, as the functions of `schema.sql` keep them. Every call names its attempt."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import asyncpg
import msgspec

from builder.aggregates.definition import Definition
from builder.aggregates.probe import BuildRequest, Rows
from builder.connections import LONGEST_WAIT_SECONDS, Connections
from builder.fencing import fence
from builder.nights.planning import Candidate, Left, PlannedJob
from builder.queries import query
from builder.row_storing import Owner, store_rows
from usage_service.shared.postgres import Pool

NOT_THE_JOBS = "UB010"
PLAN_SECONDS = 60.0  # to queue the builds of a job, or to read what is to be planned


class Night(msgspec.Struct, frozen=True):
    """A night that this worker plans, at this attempt. `most_bytes` may be read; None: what is left of the day."""

    night_id: UUID
    attempt: int
    product: str
    channel: str
    run_date: date
    latest_version: int | None
    most_bytes: int | None


class SharedJob(msgspec.Struct, frozen=True):
    """A shared job that this worker holds, at this attempt."""

    job_id: UUID
    night_id: UUID
    attempt: int
    product: str
    channel: str
    run_date: date
    latest_version: int | None

    @property
    def held(self) -> tuple[UUID, int]:
        """Return the job and the attempt, as the functions of the schema take them."""
        return self.job_id, self.attempt


class Member(msgspec.Struct, frozen=True):
    """A build of a shared job. `is_waiting`: the job is to end it; else the statements name it, and that is all."""

    request: BuildRequest
    is_waiting: bool


Held = TypeVar("Held", Night, SharedJob)


class NightQueue:
    """The nights and shared jobs for one worker; those of one night only, if `night` is given.

    Reports raise LeaseLostError or BuildCancelledElsewhereError when the claim is over. Each call raises one of
    UNAVAILABLE within a bounded time when the database is away; a call whose answer is lost may be made again.
    """

    def __init__(self, pool: Pool, worker: str, lease: timedelta, night: UUID | None = None) -> None:
        self._connections = Connections(pool, lease)
        self._worker = worker
        self._lease = lease
        self._night = night

    async def claim_night(self) -> Night | None:
        """Return a night to plan, claimed."""
        rows = await self._fetch("claim_night", self._worker, self._lease, self._night)
        return next((_struct(row, Night) for row in rows), None)

    async def candidates(self, night: Night) -> list[Candidate]:
        """Return the probes of a night that are to be planned, in the order of the list."""
        rows = await self._fetch("candidates", night.night_id, seconds=PLAN_SECONDS)
        return [Candidate(_request(uuid4(), night, row), row["requests"]) for row in rows]

    async def renew_night(self, night: Night) -> None:
        """Renew the lease."""
        await self._report("heartbeat_night", night.night_id, night.attempt, self._lease)

    async def queue_job(self, night: Night, job: PlannedJob) -> None:
        """Queue a planned job with its builds."""
        probes = [candidate.request.probe for candidate in job.candidates]
        values = (night.night_id, night.attempt, probes, job.own_bytes, job.bytes)
        await self._report("queue_shared_job", *values, seconds=PLAN_SECONDS)

    async def complete_planning(self, night: Night, left: Sequence[Left]) -> None:
        """End the planning; what is left does not fit into the night's bytes."""
        probes, sizes = [one.candidate.request.probe for one in left], [one.bytes for one in left]
        await self._report("complete_planning", night.night_id, night.attempt, probes, sizes, seconds=PLAN_SECONDS)

    async def fail_planning(self, night: Night, code: str, message: str, retry_in: timedelta | None) -> str:
        """End the attempt; return `queued` while attempts are left, or `failed`."""
        state = await self._report("fail_planning", night.night_id, night.attempt, code, message, retry_in)
        return str(state)

    async def hand_back_night(self, night: Night) -> None:
        """Let another worker plan the night at once; the attempt does not count."""
        await self._report("hand_back_night", night.night_id, night.attempt)

    async def claim_jobs(self, most: int) -> list[SharedJob]:
        """Return up to `most` shared jobs, claimed in one transaction."""
        rows = await self._fetch("claim_jobs", self._worker, self._lease, most, self._night)
        return [_struct(row, SharedJob) for row in rows]

    async def members(self, job: SharedJob) -> list[Member]:
        """Return the builds of a job, in the order of its statements."""
        rows = await self._fetch("members", job.job_id)
        return [Member(_request(row["build_id"], job, row), row["is_waiting"]) for row in rows]

    async def heartbeat(
        self, job: SharedJob, stage: str | None = None, percent: int | None = None, read: int | None = None
    ) -> None:
        """Renew the lease; record the stage and percent that the job has reached, and the bytes read, where given."""
        await self._report("heartbeat_job", *job.held, self._lease, stage, percent, read)

    async def complete_build(self, job: SharedJob, request: BuildRequest, rows: Rows, share: int) -> bool:
        """End a build with its rows and its share of the bytes, in one transaction; return whether it was to be ended.

        It is not when it was cancelled meanwhile, or has its rows already, from an attempt before or a call whose
        answer was lost.
        """
        owner = Owner(request.product, request.channel, request.probe, request.build_id)
        ending = ("complete_shared", *job.held, request.build_id, share)
        try:
            async with self._connections.one() as connection:
                with fence():
                    await store_rows(connection, owner, rows, ending)
        except asyncpg.UniqueViolationError:  # an attempt before was faster, or there are rows twice
            if any(
                member.is_waiting and member.request.build_id == request.build_id for member in await self.members(job)
            ):
                raise
            return False
        except asyncpg.PostgresError as error:
            if error.sqlstate != NOT_THE_JOBS:
                raise
            return False
        return True

    async def complete_without_rows(self, job: SharedJob, builds: Sequence[UUID], share: int) -> None:
        """End builds that have no rows, those of them that are the job's to end."""
        await self._report("complete_without_rows", *job.held, builds, share, seconds=PLAN_SECONDS)

    async def fail_build(self, job: SharedJob, build_id: UUID, code: str, message: str) -> None:
        """Fail a build for a reason of its own."""
        await self._report("fail_build", *job.held, build_id, code, message)

    async def account(self, job: SharedJob, of_warehouse: str, size: int, read: int, most: int | None) -> int | None:
        """Count what a job of the warehouse is to read, once, of `most` a day; return how many are left if too few.

        With no `most` the job is over, and has read so many. `read` are those of the attempt, this job's included.
        """
        left = await self._report("account", *job.held, self._lease, of_warehouse, size, read, most)
        return None if left is None else int(str(left))

    async def complete_job(self, job: SharedJob, bytes_read: int) -> None:
        """End a job whose builds have ended."""
        await self._report("complete_job", *job.held, bytes_read)

    async def fail_job(self, job: SharedJob, code: str, message: str, retry_in: timedelta | None) -> str:
        """End the attempt; return `queued` while attempts are left, `split` where its halves are tried, or `failed`."""
        state = await self._report("fail_job", *job.held, code, message, retry_in)
        return str(state)

    async def hand_back_job(self, job: SharedJob) -> None:
        """Queue the job again for another worker to claim at once; the attempt does not count."""
        await self._report("hand_back_job", *job.held)

    async def expire_leases(self) -> int:
        """Take the jobs from workers that were not heard of any more, and return how many these are."""
        number = 0
        while (await self._fetch("expire_lease"))[0][0]:
            number += 1
        return number

    async def end_nights(self) -> int:
        """End the nights that have no job left, and return how many these are."""
        number: int = (await self._fetch("end_nights"))[0][0]
        return number

    async def _fetch(self, name: str, *values: object, seconds: float = LONGEST_WAIT_SECONDS) -> list[asyncpg.Record]:
        async with self._connections.one() as connection:
            return await connection.fetch(query("nights", name), *values, timeout=seconds)

    async def _report(self, name: str, *values: object, seconds: float | None = None) -> object:
        async with self._connections.one() as connection:
            with fence():
                return await connection.fetchval(
                    query("nights", name), *values, timeout=seconds or self._connections.wait
                )


def _struct(row: asyncpg.Record, kind: type[Held]) -> Held:
    return msgspec.convert({name: row[name] for name in kind.__struct_fields__}, kind)


def _request(build_id: UUID, of: Night | SharedJob, row: asyncpg.Record) -> BuildRequest:
    return BuildRequest(
        build_id=build_id,
        product=of.product,
        channel=of.channel,
        probe=row["probe"],
        metric_type=row["metric_type"],
        pings=tuple(row["pings"]),
        run_date=of.run_date,
        latest_version=of.latest_version,
        definition=msgspec.convert(row["definition"], Definition) if row["definition"] else Definition(),
    )
