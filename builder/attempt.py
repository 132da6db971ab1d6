"""One attempt at a build, from its claim to its end: keeps the lease, keeps to the limits, reports what came of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import TypeVar

import structlog

from builder.aggregates.probe import BuiltProbe
from builder.computation_thread import Computation, Compute
from builder.errors import BuildError, PermanentBuildError, TransientBuildError
from builder.queue import BuildCancelledElsewhereError, BuildQueue, Claim, LeaseLostError
from builder.settings import BuilderSettings
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.shared.tracing import Span, SpanKind, fail, span

PATIENCE_SECONDS = 30.0  # with a database that is away
AGAIN_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 300.0
OUT_OF_BYTES = "dailyBytesExceeded"

Result = TypeVar("Result")
log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """What came of an attempt."""

    SUCCEEDED = "succeeded"
    NO_DATA = "no_data"
    FAILED = "failed"
    RETRIED = "retried"
    CANCELLED = "cancelled"
    LOST = "lost"  # the lease; or the end could not be reported, and the lease will be
    HANDED_BACK = "handed_back"


class HandBackError(Exception):
    """The builder stops: another one is to go on."""


class Attempt:
    """Runs one claim. `outcome` is None until it is over; `bytes` are those read so far."""

    def __init__(self, queue: BuildQueue, compute: Compute, settings: BuilderSettings, claim: Claim) -> None:
        self.claim = claim
        self.outcome: Outcome | None = None
        self.retry_seconds = 0.0  # until a retried build may be claimed
        self.bytes = 0
        self._queue = queue
        self._compute = compute
        self._settings = settings
        self._told: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._reporting = asyncio.Lock()
        self._computation: Computation | None = None

    def cancel(self) -> None:
        """Says that the build was cancelled: stops the warehouse's job as well, and reports nothing."""
        self._tell(BuildCancelledElsewhereError("notified"))

    def hand_back(self) -> None:
        """Lets another builder go on with it: the warehouse's job runs on."""
        self._tell(HandBackError())

    def look(self) -> None:
        """Asks now whether the build is still this attempt's."""
        if self._computation:
            self._computation.look()

    async def run(self) -> None:
        """Sees the attempt to its end; raises nothing but what stops it from outside."""
        named = structlog.contextvars.bound_contextvars(build_id=str(self.claim.build_id), attempt=self.claim.attempt)
        with named, self._span() as made:
            self.outcome = await self._outcome()
            fields = {"probe": self.claim.probe, "bytes": self.bytes}
            log.info("attempt_ended", outcome=self.outcome.value, **fields)
            made.set_attributes({"build.outcome": self.outcome.value, "build.bytes": self.bytes})
            if self.outcome in (Outcome.FAILED, Outcome.RETRIED, Outcome.LOST):
                fail(made, self.outcome.value)

    def _span(self) -> AbstractContextManager[Span]:
        """Part of the trace that the build was asked for in, if it was traced."""
        claim = self.claim
        probe = {"build.product": claim.product, "build.channel": claim.channel, "build.probe": claim.probe}
        about: dict[str, str | int] = {"build.id": str(claim.build_id), "build.attempt": claim.attempt, **probe}
        carrier = {"traceparent": claim.traceparent} if claim.traceparent else {}
        return span("build probe", about, kind=SpanKind.CONSUMER, carrier=carrier)

    async def _outcome(self) -> Outcome:
        try:
            return Outcome.SUCCEEDED if await self._build() else Outcome.NO_DATA
        except BuildCancelledElsewhereError:
            return Outcome.CANCELLED
        except HandBackError:
            return await self._reported(partial(self._queue.hand_back, self.claim), Outcome.HANDED_BACK)
        except BuildError as error:
            return await self._failed(error.code, str(error), retry=isinstance(error, TransientBuildError))
        except (LeaseLostError, *UNAVAILABLE) as error:
            # A result that could not be stored is found again: by the next attempt, in the warehouse.
            log.warning("lease_lost", error=repr(error))
            return Outcome.LOST
        except Exception:
            log.exception("attempt_crashed")
            return await self._failed("internal", "the builder failed; its log says why", retry=True)

    async def _build(self) -> int:
        """Computes and stores; how many rows."""
        claim = self.claim
        if self._told.done():
            raise self._told.result()
        request = claim.request(datetime.now(UTC).date())
        computation = Computation(self._compute, request, self._admit, f"build {claim.build_id}")
        self._computation = computation
        pulse = asyncio.create_task(self._keep_lease(computation))
        try:
            built = await self._computed(computation, pulse)
            self.bytes = built.bytes_processed
            with span("store"):
                return await _patiently(lambda: self._queue.complete(claim, built.rows, built.bytes_processed))
        except BuildCancelledElsewhereError:
            await computation.cancel()
            raise
        finally:
            computation.abandon()
            await _end(pulse)

    async def _computed(self, computation: Computation, pulse: asyncio.Task[None]) -> BuiltProbe:
        seconds = self._settings.build_seconds
        waiting: set[asyncio.Future[BuiltProbe] | asyncio.Future[Exception] | asyncio.Task[None]]
        waiting = {computation.result, pulse, self._told}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._told.done():
            raise self._told.result()
        if pulse.done():
            pulse.result()  # raises
        if not computation.result.done():
            raise TransientBuildError(
                "timeout", f"the build took longer than {seconds:g} s; its job is adopted next time"
            )
        return computation.result.result()

    async def _keep_lease(self, computation: Computation) -> None:
        """Reports steps as they come and proves the worker alive in between, until the build is no longer its own."""
        while True:
            await computation.moved(self._settings.lease_seconds / 3)
            try:
                async with self._reporting:
                    await self._report(computation)
            except UNAVAILABLE as error:
                log.warning("heartbeat_missed", error=repr(error))
                await asyncio.sleep(AGAIN_SECONDS)
                computation.look()

    async def _report(self, computation: Computation) -> None:
        step = computation.take_step()
        if step is None:
            await self._queue.heartbeat(self.claim)
            return
        self.bytes = max(self.bytes, step.bytes)
        await self._queue.heartbeat(self.claim, step.stage, step.percent, self.bytes)

    async def _admit(self, read: int, needed: int) -> None:
        """Reserves what the next statement reads, where that is within the day's limit; else PermanentBuildError."""
        try:
            async with self._reporting:
                await _patiently(lambda: self._reserve(read, needed))
        except UNAVAILABLE as error:
            raise TransientBuildError("databaseAway", f"nothing is read without an account of it: {error!r}") from error

    async def _reserve(self, read: int, needed: int) -> None:
        # Reserved first, looked at then: two builders at the same time may both be refused, never both be let in.
        limit = self._settings.most_bytes_a_day
        await self._queue.heartbeat(self.claim, read=read + needed)
        if await self._queue.bytes_left_today(limit + 1):
            self.bytes = read + needed
            return
        await self._queue.heartbeat(self.claim, read=read)
        left = await self._queue.bytes_left_today(limit)
        raise PermanentBuildError(
            OUT_OF_BYTES,
            f"the next statement would read {needed:,} bytes; of the {limit:,} that may be read a day (UTC) {left:,} "
            "are left (PROBE_BUILDER_MOST_BYTES_A_DAY)",
        )

    async def _failed(self, code: str, message: str, *, retry: bool) -> Outcome:
        backoff = self._backoff() if retry else None
        log.warning("attempt_failed", probe=self.claim.probe, code=code, message=message)
        state = ""

        async def fail() -> None:
            nonlocal state
            state = await self._queue.fail(self.claim, code, message, backoff)

        outcome = await self._reported(fail, Outcome.FAILED)
        if state == "queued" and backoff:
            self.retry_seconds = backoff.total_seconds()
            return Outcome.RETRIED
        return outcome

    async def _reported(self, report: Callable[[], Awaitable[None]], outcome: Outcome) -> Outcome:
        """The outcome, or what the database says has become of the build meanwhile."""
        try:
            await _patiently(report)
        except BuildCancelledElsewhereError:
            return Outcome.CANCELLED
        except (LeaseLostError, *UNAVAILABLE) as error:
            log.warning("end_not_reported", outcome=outcome.value, error=repr(error))
            return Outcome.LOST
        return outcome

    def _tell(self, why: Exception) -> None:
        if not self._told.done():
            self._told.set_result(why)

    def _backoff(self) -> timedelta:
        longest = min(LONGEST_BACKOFF_SECONDS, self._settings.retry_seconds * 2 ** (self.claim.attempt - 1))
        return timedelta(seconds=longest * random.uniform(0.5, 1))


async def _patiently(call: Callable[[], Awaitable[Result]]) -> Result:
    """What the call answers, made again while the database is away, for PATIENCE_SECONDS."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return await call()
        except UNAVAILABLE as error:
            if time.monotonic() > deadline:
                raise
            log.info("database_away", error=repr(error))
        await asyncio.sleep(AGAIN_SECONDS)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=1)
    if task.done() and not task.cancelled():
        task.exception()  # retrieved: it does not matter any more
