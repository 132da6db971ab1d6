"""The worker of a builder: it claims work of each kind, as much at a time as it may, and runs an attempt at each."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from functools import partial

import structlog

from builder.attempt import Attempt
from builder.metrics import BuilderMetrics
from builder.settings import BuilderSettings
from builder.work import Source, Work
from usage_service.shared.bigquery.errors import WAITING_STAGES
from usage_service.shared.postgres import UNAVAILABLE

HAND_BACK_SECONDS = 5.0
RETRY_SLACK_SECONDS = 0.01
_random = random.SystemRandom()  # forks do not draw alike

log = structlog.get_logger(__name__)


class Worker:
    """A worker that keeps work of its sources running, up to `most` of each."""

    def __init__(self, sources: Sequence[Source], settings: BuilderSettings, metrics: BuilderMetrics) -> None:
        self._sources = sources
        self._settings = settings
        self._metrics = metrics
        for kind, gauge in metrics.running.items():
            gauge.set_function(partial(self._number, kind))
        for stage in WAITING_STAGES:
            metrics.waiting.labels(stage).set_function(partial(self._at, stage))
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], tuple[Source, Attempt]] = {}
        self._claiming = asyncio.Lock()
        self._stopping = False
        self._tend_at = 0.0

    def wake(self) -> None:
        """Claim work now rather than at the next poll."""
        self._wake.set()

    def check(self) -> None:
        """Claim work, and check what runs, as after a time whose notifications may be lost."""
        self.wake()
        for _, attempt in self._running.values():
            attempt.check()

    def cancel(self, work_id: str) -> None:
        """Stop the work of this id if it runs here: it was cancelled."""
        for _, attempt in self._running.values():
            if str(attempt.work.id) == work_id:
                attempt.cancel()

    async def run(self) -> None:
        """Claim and run work until cancelled; after `stop` none is claimed any more."""
        by_poll = False
        while True:
            try:
                claimed = await self._claim(by_poll)
                if not claimed or time.monotonic() >= self._tend_at:
                    self._tend_at = time.monotonic() + self._settings.poll_seconds
                    for source in self._sources:
                        await source.tend()
            except UNAVAILABLE as error:
                log.warning("queue_unavailable", error=repr(error))
            by_poll = not await self._woken()

    async def stop(self) -> None:
        """Let what runs finish within the grace period, then hand back the rest; claim none any more."""
        self._stopping = True
        for source in self._sources:
            source.close()
        async with self._claiming:  # what is being claimed either is in _running now or is not claimed
            pass
        for _, attempt in self._running.values():
            attempt.drain()
        if self._running:
            log.info("finishing", running=len(self._running), grace_seconds=self._settings.grace_seconds)
        await self._idle(self._settings.grace_seconds)
        for _, attempt in self._running.values():
            attempt.hand_back()
        await self._idle(HAND_BACK_SECONDS)
        for task in self._running:  # the database is away: their leases end by themselves
            task.cancel()

    async def _idle(self, seconds: float) -> None:
        """Wait until nothing runs, for so many seconds at most; what ends may have had a successor claimed."""
        until = time.monotonic() + seconds
        while self._running and (left := until - time.monotonic()) > 0:
            await asyncio.wait(list(self._running), timeout=left)

    def _at(self, stage: str) -> int:
        return sum(attempt.stage == stage for _, attempt in self._running.values())

    def _number(self, kind: str) -> int:
        return sum(attempt.work.kind == kind for _, attempt in self._running.values())

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
        """Claim as much of each source as may run besides what is running; return whether there was any."""
        async with self._claiming:
            claimed = False
            for source in self._sources:
                free = source.most - sum(of is source for of, _ in self._running.values())
                if self._stopping or not free:
                    continue
                for work in await source.claim(free, by_poll=by_poll):
                    self._start(source, work)
                    claimed = True
            return claimed

    def _start(self, source: Source, work: Work) -> None:
        attempt = Attempt(work, self._settings)
        if self._stopping:  # it was claimed just before
            attempt.hand_back()
        task = asyncio.create_task(attempt.run(), name=f"{work.kind} {work.id}")
        self._running[task] = (source, attempt)
        started = asyncio.get_running_loop().time()
        task.add_done_callback(lambda task: self._ended(task, started))

    def _ended(self, task: asyncio.Task[None], started: float) -> None:
        source, attempt = self._running.pop(task)
        loop = asyncio.get_running_loop()
        self._metrics.ended(attempt, loop.time() - started)
        for successor in attempt.work.successors or ():
            self._start(source, successor)
        if attempt.work.successors is None:  # else there are no more than these
            loop.call_later(attempt.retry_seconds + RETRY_SLACK_SECONDS if attempt.retry_seconds else 0, self._wake.set)
        if not task.cancelled() and (error := task.exception()):
            log.error("attempt_died", work=task.get_name(), exc_info=error)
