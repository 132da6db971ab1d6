"""Nights as work: planning one by dry runs, and reading the probes of one of its jobs together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID

import structlog

from builder.aggregates.probe import BuildRequest, BuiltTogether, Progress, Rows
from builder.database_away import retried_while_away
from builder.nights.planning import Candidate, Limits, Plan, plan_night
from builder.nights.queue import Member, Night, NightQueue, SharedJob
from builder.work import AFTER_FAILURE, Done, Outcome
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError
from usage_service.shared.threads import in_loop

ReadAlike = Callable[[Sequence[BuildRequest]], Sequence[Sequence[BuildRequest]]]
"""Returns probes in groups that one statement can read."""

Estimate = Callable[[Sequence[BuildRequest], Control], int]
"""Returns the bytes that probes which are read alike take together, by dry runs; blocks; raises WorkError."""

AggregateTogether = Callable[[UUID, Sequence[BuildRequest], Progress, Control], BuiltTogether]
"""Aggregates probes that are read alike under the name of a job; blocks, and stops where the control says so."""

PLANNING, STORING = "planning", "storing"
STORING_PERCENT = 80
STORE_SECONDS = 600.0  # for the rows of one probe, database away included

log = structlog.get_logger(__name__)


class Readings(NamedTuple):
    """The functions that read several probes at once."""

    read_alike: ReadAlike
    estimate: Estimate
    aggregate: AggregateTogether


class NightWork:
    """A night that is to be planned."""

    kind = "night"
    traceparent = None
    successors = None

    def __init__(
        self, queue: NightQueue, readings: Readings, night: Night, candidates: Sequence[Candidate], limits: Limits
    ) -> None:
        self._queue = queue
        self._readings = readings
        self._night = night
        self._candidates = candidates
        self._limits = limits
        self.id: UUID = night.night_id
        self.attempt: int = night.attempt

    @property
    def about(self) -> Mapping[str, str | int]:
        """Return the channel, and how many probes are to be planned."""
        return {"product": self._night.product, "channel": self._night.channel, "probes": len(self._candidates)}

    def run(self, progress: Progress, control: Control) -> Done:
        """Plan the night by dry runs."""
        by_id = {candidate.request.build_id: candidate for candidate in self._candidates}
        alike = self._readings.read_alike([candidate.request for candidate in self._candidates])
        groups = [[by_id[request.build_id] for request in group] for group in alike]
        plan = plan_night(
            groups,
            lambda requests: self._readings.estimate(requests, control),
            self._limits,
            lambda seen: progress(PLANNING, 100 * seen // len(by_id), 0),
        )
        return Done(0, partial(self._store, plan))

    async def _store(self, plan: Plan) -> Outcome:
        for job in plan.jobs:
            await self._queue.queue_job(self._night, job)
        await self._queue.complete_planning(self._night, plan.left)
        log.info(
            "night_planned",
            jobs=len(plan.jobs),
            bytes=sum(job.bytes or 0 for job in plan.jobs),
            left=len(plan.left),
            most_bytes=self._limits.night_bytes,
        )
        return Outcome.SUCCEEDED

    async def heartbeat(self, stage: str | None = None, percent: int | None = None, read: int | None = None) -> None:
        """Renew the lease; planning reads nothing."""
        await self._queue.renew_night(self._night)

    async def account(self, job: str, size: int, read: int, most: int | None) -> int | None:
        """Do nothing: planning reads nothing."""

    async def fail(self, code: str, message: str, retry_in: timedelta | None) -> Outcome:
        """End the attempt; the night is planned again after `retry_in`, while attempts are left."""
        return AFTER_FAILURE[await self._queue.fail_planning(self._night, code, message, retry_in)]

    async def hand_back(self) -> None:
        """Let another worker plan the night at once; the attempt does not count."""
        await self._queue.hand_back_night(self._night)


class SharedJobWork:
    """A job that reads several probes, whose builds end one after the other, each in a transaction of its own."""

    kind = "shared_job"
    traceparent = None
    successors = None

    def __init__(self, queue: NightQueue, readings: Readings, job: SharedJob, members: Sequence[Member]) -> None:
        self._queue = queue
        self._readings = readings
        self._job = job
        self._members = members
        self._loop = asyncio.get_running_loop()
        self.id: UUID = job.job_id
        self.attempt: int = job.attempt

    @property
    def about(self) -> Mapping[str, str | int]:
        """Return the night, the channel, and how many probes are read."""
        job = self._job
        probes = len(self._members)
        return {"night_id": str(job.night_id), "product": job.product, "channel": job.channel, "probes": probes}

    def run(self, progress: Progress, control: Control) -> Done:
        """Read the probes together, and end the build of each as soon as its rows are fetched."""
        requests = [member.request for member in self._members]
        built = self._readings.aggregate(self._job.job_id, requests, progress, control)
        read, share = built.bytes_processed, built.bytes_processed // len(requests)
        without_rows = list[UUID]()
        for number, (member, rows) in enumerate(zip(self._members, built, strict=True), 1):
            control.check()
            build_id = member.request.build_id
            if not member.is_waiting:
                continue
            if isinstance(rows, PermanentWorkError):
                self._in_loop(partial(self._queue.fail_build, self._job, build_id, rows.code, rows.message))
            elif len(rows):
                self._in_loop(partial(self._completed, member.request, rows, share))
            else:
                without_rows.append(build_id)
            progress(STORING, STORING_PERCENT + (99 - STORING_PERCENT) * number // len(requests), read)
        return Done(read, partial(self._end, without_rows, share, read))

    async def _completed(self, request: BuildRequest, rows: Rows, share: int) -> None:
        if not await self._queue.complete_build(self._job, request, rows, share):
            log.info("build_left_alone", build_id=str(request.build_id), probe=request.probe)

    def _in_loop(self, call: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Make a call in the event loop, and wait for it. Called in the computation thread."""
        in_loop(self._loop, retried_while_away(call), STORE_SECONDS)

    async def _end(self, without_rows: Sequence[UUID], share: int, read: int) -> Outcome:
        if without_rows:
            await self._queue.complete_without_rows(self._job, without_rows, share)
        await self._queue.complete_job(self._job, read)
        return Outcome.SUCCEEDED

    async def heartbeat(self, stage: str | None = None, percent: int | None = None, read: int | None = None) -> None:
        """Renew the lease; record the stage and percent that were reached, and the bytes read, where given."""
        await self._queue.heartbeat(self._job, stage, percent, read)

    async def account(self, job: str, size: int, read: int, most: int | None) -> int | None:
        """Count the bytes that a job of the warehouse is to read, or has read; return how many are left if too few."""
        return await self._queue.account(self._job, job, size, read, most)

    async def fail(self, code: str, message: str, retry_in: timedelta | None) -> Outcome:
        """End the attempt; the job is tried again after `retry_in` while attempts are left, then in halves."""
        return AFTER_FAILURE[await self._queue.fail_job(self._job, code, message, retry_in)]

    async def hand_back(self) -> None:
        """Queue the job again for another worker to claim at once; the attempt does not count."""
        await self._queue.hand_back_job(self._job)


class ByteLimits(NamedTuple):
    """The bytes that a job may read, those that all work of a day may, and how many are left of these.

    `together_bytes`: those that a job of several probes may read.
    """

    job_bytes: int
    together_bytes: int
    day_bytes: int
    left_today: Callable[[int], Coroutine[Any, Any, int]]


class NightSource:
    """The queue of nights: of their plans and jobs a worker runs up to `most`."""

    def __init__(
        self, queue: NightQueue, readings: Readings, most: int, limits: ByteLimits, expired: Callable[[int], None]
    ) -> None:
        self.most = most
        self._queue = queue
        self._readings = readings
        self._limits = limits
        self._expired = expired

    async def claim(self, most: int, *, by_poll: bool) -> list[NightWork | SharedJobWork]:
        """Return up to `most` nights to plan and jobs to do, claimed."""
        work = list[NightWork | SharedJobWork]()
        if night := await self._queue.claim_night():
            candidates = await self._queue.candidates(night)
            work.append(NightWork(self._queue, self._readings, night, candidates, await self._limits_of(night)))
        if len(work) < most:
            for job in await self._queue.claim_jobs(most - len(work)):
                work.append(SharedJobWork(self._queue, self._readings, job, await self._queue.members(job)))
        return work

    async def _limits_of(self, night: Night) -> Limits:
        left = await self._limits.left_today(self._limits.day_bytes)
        night_bytes = left if night.most_bytes is None else min(left, night.most_bytes)
        return Limits(self._limits.job_bytes, self._limits.together_bytes, night_bytes)

    async def tend(self) -> None:
        """Take the jobs of dead builders from them, and end the nights that are through."""
        self._expired(await self._queue.expire_leases())
        await self._queue.end_nights()

    def close(self) -> None:
        """Do nothing: no work of a night is claimed but by `claim`."""
