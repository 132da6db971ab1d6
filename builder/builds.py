"""Builds of single probes as work: what an attempt at one aggregates, stores and reports."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID

from builder.aggregates.probe import BuildRequest, BuiltProbe, Progress
from builder.queue import BuildQueue, Claim
from builder.work import AFTER_FAILURE, Done, Outcome
from usage_service.shared.bigquery.control import Control

Aggregate = Callable[[BuildRequest, Progress, Control], BuiltProbe]
"""Aggregates a probe; blocks, reports its steps, and stops where `control` says so."""

Claimed = Callable[[Claim, bool], None]
"""Called with each claim, and with whether no notification led to it."""


class BuildWork:
    """A build of one probe."""

    kind = "build"

    def __init__(
        self, queue: BuildQueue, aggregate: Aggregate, claim: Claim, follow: Callable[[Claim], BuildWork]
    ) -> None:
        self._queue = queue
        self._aggregate = aggregate
        self._claim = claim
        self._follow = follow
        self.successors: list[BuildWork] | None = None
        self.id: UUID = claim.build_id
        self.attempt: int = claim.attempt
        self.traceparent: str | None = claim.traceparent

    @property
    def about(self) -> Mapping[str, str | int]:
        """Return the probe."""
        return {"product": self._claim.product, "channel": self._claim.channel, "probe": self._claim.probe}

    def run(self, progress: Progress, control: Control) -> Done:
        """Aggregate the probe, as of today."""
        built = self._aggregate(self._claim.request(datetime.now(UTC).date()), progress, control)
        return Done(built.bytes_processed, partial(self._store, built))

    async def _store(self, built: BuiltProbe) -> Outcome:
        stored = await self._queue.complete(self._claim, built.rows, built.bytes_processed)
        if stored.looked:
            self.successors = [self._follow(stored.successor)] if stored.successor else []
        return Outcome.SUCCEEDED if stored.rows else Outcome.NO_DATA

    async def heartbeat(self, stage: str | None = None, percent: int | None = None, read: int | None = None) -> None:
        """Renew the lease; record the stage and percent that were reached, and the bytes read, where given."""
        await self._queue.heartbeat(self._claim, stage, percent, read)

    async def account(self, job: str, size: int, read: int, most: int | None) -> int | None:
        """Count the bytes that a job of the warehouse is to read, or has read; return how many are left if too few."""
        return await self._queue.account(self._claim, job, size, read, most)

    async def fail(self, code: str, message: str, retry_in: timedelta | None) -> Outcome:
        """End the attempt; the build is tried again after `retry_in`, while attempts are left."""
        return AFTER_FAILURE[await self._queue.fail(self._claim, code, message, retry_in)]

    async def hand_back(self) -> None:
        """Queue the build again for another worker to claim at once; the attempt does not count."""
        await self._queue.hand_back(self._claim)


class BuildSource:
    """The queue of builds, of which a worker runs up to `most`."""

    def __init__(
        self, queue: BuildQueue, aggregate: Aggregate, most: int, claimed: Claimed, expired: Callable[[int], None]
    ) -> None:
        self.most = most
        self._queue = queue
        self._aggregate = aggregate
        self._claimed = claimed
        self._expired = expired

    async def claim(self, most: int, *, by_poll: bool) -> list[BuildWork]:
        """Return up to `most` builds, claimed; those that somebody waits for first."""
        return [self._work(claim, by_poll=by_poll) for claim in await self._queue.claim(most)]

    def _work(self, claim: Claim, *, by_poll: bool = False) -> BuildWork:
        self._claimed(claim, by_poll)
        return BuildWork(self._queue, self._aggregate, claim, self._work)

    async def tend(self) -> None:
        """Queue the builds of dead builders again, which wakes a free builder."""
        self._expired(await self._queue.expire_leases())

    def close(self) -> None:
        """Claim nothing any more: builds that end have no successors, either."""
        self._queue.close()
