"""Claims builds, as many at a time as it may, and sees each to its end."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import structlog

from builder.errors import BuildCancelledError, PermanentBuildError, TransientBuildError
from builder.probe import BuildRequest, BuiltProbe, Progress
from builder.queue import BuildQueue, Claim, LeaseLostError
from builder.settings import BuilderSettings
from usage_service.shared.postgres import UNAVAILABLE

Compute = Callable[[BuildRequest, Progress], BuiltProbe]

log = structlog.get_logger(__name__)


class Step(NamedTuple):
    """How far a computation is: its stage, percent of the whole, bytes read."""

    stage: str
    percent: int
    bytes: int


class Computation:
    """One computation in a thread of its own, and the latest step that it reported."""

    def __init__(self, compute: Compute, request: BuildRequest) -> None:
        self._compute = compute
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._abandoned = threading.Event()
        self._moved = asyncio.Event()
        self._step: Step | None = None

    async def run(self) -> BuiltProbe:
        """The result; raises what the computation raises. Cancelled, it stops the thread at its next step."""
        try:
            return await asyncio.to_thread(self._compute, self._request, self._report)
        finally:
            self._abandoned.set()

    async def next_step(self, within: float) -> Step | None:
        """The latest step that was not asked for yet, or None when there is none `within` seconds."""
        try:
            async with asyncio.timeout(within):
                await self._moved.wait()
        except TimeoutError:
            return None
        self._moved.clear()
        return self._step

    def _report(self, stage: str, percent: int, read: int) -> None:
        if self._abandoned.is_set():
            raise BuildCancelledError
        self._loop.call_soon_threadsafe(self._move, Step(stage, percent, read))

    def _move(self, step: Step) -> None:
        self._step = step
        self._moved.set()


class Worker:
    """Keeps up to `concurrency` builds running. `wake` says that one may wait."""

    def __init__(self, queue: BuildQueue, compute: Compute, settings: BuilderSettings) -> None:
        self._queue = queue
        self._compute = compute
        self._settings = settings
        self._wake = asyncio.Event()
        self._running: dict[asyncio.Task[None], Claim] = {}

    def wake(self) -> None:
        """Looks for builds now rather than at the next poll."""
        self._wake.set()

    async def run(self) -> None:
        """Works until cancelled; then call `stop`."""
        while True:
            try:
                await self._queue.expire_leases()
                await self._claim_while_free()
            except UNAVAILABLE as error:
                log.warning("queue_unavailable", error=repr(error))
            try:
                async with asyncio.timeout(self._settings.poll_seconds):
                    await self._wake.wait()
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def stop(self) -> None:
        """Lets running builds finish within the grace period, then hands back the rest."""
        if self._running:
            log.info("finishing", builds=len(self._running), grace_seconds=self._settings.grace_seconds)
            await asyncio.wait(self._running, timeout=self._settings.grace_seconds)
        for task, claim in list(self._running.items()):
            task.cancel()
            await self._fail(claim, "interrupted", "its builder was stopped", timedelta(0))

    async def _claim_while_free(self) -> None:
        while len(self._running) < self._settings.concurrency:
            claim = await self._queue.claim()
            if claim is None:
                return
            task = asyncio.create_task(self._build(claim), name=f"build {claim.build_id}")
            self._running[task] = claim
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._running[task]
        self._wake.set()
        if not task.cancelled() and (error := task.exception()):
            log.error("build_died", build=task.get_name(), exc_info=error)

    async def _build(self, claim: Claim) -> None:
        with structlog.contextvars.bound_contextvars(build_id=str(claim.build_id), attempt=claim.attempt):
            try:
                rows = await self._compute_and_store(claim)
                log.info("build_done", probe=claim.probe, rows=rows)
            except LeaseLostError:
                log.warning("lease_lost", probe=claim.probe)
            except PermanentBuildError as error:
                await self._fail(claim, error.code, str(error), None)
            except TransientBuildError as error:
                await self._fail(claim, error.code, str(error), self._backoff(claim.attempt))
            except UNAVAILABLE as error:
                # Its lease ends by itself, and the next attempt finds the warehouse's result.
                log.warning("build_not_reported", probe=claim.probe, error=repr(error))
            except Exception:
                log.exception("build_crashed", probe=claim.probe)
                await self._fail(
                    claim, "internal", "the builder failed; its log says why", self._backoff(claim.attempt)
                )

    async def _compute_and_store(self, claim: Claim) -> int:
        latest = await self._queue.latest_version(claim.product, claim.channel)
        computation = Computation(self._compute, claim.request(datetime.now(UTC).date(), latest))
        work = asyncio.create_task(computation.run())
        pulse = asyncio.create_task(self._keep_lease(claim, computation))
        try:
            await asyncio.wait({work, pulse}, return_when=asyncio.FIRST_COMPLETED)
            if pulse.done():
                pulse.result()  # raises LeaseLostError
            built = work.result()
            return await self._queue.complete(claim, built.rows, built.bytes_processed)
        finally:
            for task in (work, pulse):
                task.cancel()
            await asyncio.wait({work, pulse}, timeout=1)

    async def _keep_lease(self, claim: Claim, computation: Computation) -> None:
        """Reports steps as they come and proves the worker alive in between, until the lease is lost."""
        while True:
            step = await computation.next_step(self._settings.lease_seconds / 3)
            try:
                await self._queue.heartbeat(claim, *(step or ()))
            except UNAVAILABLE as error:
                log.warning("heartbeat_missed", error=repr(error))

    async def _fail(self, claim: Claim, code: str, message: str, retry_in: timedelta | None) -> None:
        try:
            state = await self._queue.fail(claim, code, message, retry_in)
            log.warning("build_failed", probe=claim.probe, code=code, message=message, state=state)
        except (LeaseLostError, *UNAVAILABLE) as error:
            log.warning("failure_not_reported", probe=claim.probe, code=code, error=repr(error))

    def _backoff(self, attempt: int) -> timedelta:
        longest = min(300.0, self._settings.retry_seconds * 2 ** (attempt - 1))
        return timedelta(seconds=longest * random.uniform(0.5, 1))
