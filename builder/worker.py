"""The worker of a builder: it claims builds, as many at a time as it may, and runs an attempt at each."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial

import structlog

from builder.attempt import Attempt
from builder.computation_thread import Aggregate
from builder.errors import WAITING_STAGES
from builder.metrics import BuilderMetrics
from builder.queue import BuildQueue, Claim
from builder.settings import BuilderSettings
from usage_service.shared.postgres import UNAVAILABLE

HAND_BACK_SECONDS = 5.0
RETRY_SLACK_SECONDS = 0.01
_random = random.SystemRandom()  # forks do not draw alike

log = structlog.get_logger(__name__)


class Worker:
    """A worker that keeps up to `concurrency` builds running."""

    def __init__(
        self, queue: BuildQueue, aggregate: Aggregate, settings: BuilderSettings, metrics: BuilderMetrics | None = None
    ) -> None:
        self._queue = queue
        self._aggregate = aggregate
        self._settings = settings
        self._metrics = metrics or BuilderMetrics()
        self._metrics.running.set_function(lambda: len(self._running))
        for stage in WAITING_STAGES:
            self._metrics.waiting.labels(stage).set_function(partial(self._at, stage))
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Attempt] = {}
        self._claiming = asyncio.Lock()
        self._stopping = False
        self._expire_at = 0.0

    def wake(self) -> None:
        """Claim builds now rather than at the next poll."""
        self._wake.set()

    def check(self) -> None:
        """Claim builds, and check those that run, as after a time whose notifications may be lost."""
        self.wake()
        for attempt in self._running.values():
            attempt.check()

    def cancel(self, build_id: str) -> None:
        """Stop the build if it runs here: it was cancelled."""
        for attempt in self._running.values():
            if str(attempt.claim.build_id) == build_id:
                attempt.cancel()

    async def run(self) -> None:
        """Claim and run builds until cancelled; after `stop` no build is claimed any more."""
        by_poll = False
        while True:
            try:
                claimed = await self._claim(by_poll)
                if not claimed or time.monotonic() >= self._expire_at:
                    await self._expire_leases()
            except UNAVAILABLE as error:
                log.warning("queue_unavailable", error=repr(error))
            by_poll = not await self._woken()

    async def stop(self) -> None:
        """Let running builds finish within the grace period, then hand back the rest; claim none any more."""
        self._stopping = True
        async with self._claiming:  # a build that is being claimed either is in _running now or is not claimed
            remaining = set(self._running)
        for attempt in self._running.values():
            attempt.drain()
        if remaining:
            log.info("finishing", builds=len(remaining), grace_seconds=self._settings.grace_seconds)
            _, remaining = await asyncio.wait(remaining, timeout=self._settings.grace_seconds)
        for task in remaining:
            self._running[task].hand_back()
        if remaining:
            _, remaining = await asyncio.wait(remaining, timeout=HAND_BACK_SECONDS)
        for task in remaining:  # the database is away: their leases end by themselves
            task.cancel()

    def _at(self, stage: str) -> int:
        return sum(attempt.stage == stage for attempt in self._running.values())

    async def _woken(self) -> bool:
        """Wait for a wake-up or the next poll; return whether it was a wake-up."""
        try:
            # A random time below poll_seconds, so that builders that began together do not poll together.
            async with asyncio.timeout(self._settings.poll_seconds * _random.uniform(0.8, 0.95)):
                await self._wake.wait()
        except TimeoutError:
            return False
        self._wake.clear()
        return True

    async def _claim(self, by_poll: bool) -> bool:
        """Claim as many builds as may run besides the running ones; return whether there was any."""
        async with self._claiming:
            free = self._settings.concurrency - len(self._running)
            if self._stopping or not free:
                return False
            claims = await self._queue.claim(free)
            for claim in claims:
                self._metrics.claimed(claim, by_poll)
                self._start(claim)
            return bool(claims)

    async def _expire_leases(self) -> None:
        """Expire the leases of dead builders; their builds are queued again, which wakes a free builder."""
        self._expire_at = time.monotonic() + self._settings.poll_seconds
        self._metrics.leases_expired.inc(await self._queue.expire_leases())

    def _start(self, claim: Claim) -> None:
        attempt = Attempt(self._queue, self._aggregate, self._settings, claim)
        task = asyncio.create_task(attempt.run(), name=f"build {claim.build_id}")
        self._running[task] = attempt
        started = asyncio.get_running_loop().time()
        task.add_done_callback(lambda task: self._ended(task, started))

    def _ended(self, task: asyncio.Task[None], started: float) -> None:
        attempt = self._running.pop(task)
        loop = asyncio.get_running_loop()
        self._metrics.ended(attempt, loop.time() - started)
        loop.call_later(attempt.retry_seconds + RETRY_SLACK_SECONDS if attempt.retry_seconds else 0, self._wake.set)
        if not task.cancelled() and (error := task.exception()):
            log.error("build_died", build=task.get_name(), exc_info=error)
