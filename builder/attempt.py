"""One attempt at a build, from its claim to its end: it renews the lease, keeps to the limits, reports its outcome."""

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
from builder.computation_thread import Aggregate, ComputationThread
from builder.errors import BuildAbandonedError, BuildError, PermanentBuildError, TransientBuildError
from builder.queue import BuildCancelledElsewhereError, BuildQueue, Claim, LeaseLostError
from builder.settings import BuilderSettings
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.shared.tracing import Span, SpanKind, fail, span

DATABASE_AWAY_SECONDS = 30.0  # after which a call to a database that is away is given up
AGAIN_SECONDS = 0.25
LONGEST_BACKOFF_SECONDS = 300.0
OUT_OF_BYTES = "dailyBytesExceeded"
_random = random.SystemRandom()  # forks do not draw alike

Result = TypeVar("Result")
log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """The outcomes of an attempt."""

    SUCCEEDED = "succeeded"
    NO_DATA = "no_data"
    FAILED = "failed"
    RETRIED = "retried"
    CANCELLED = "cancelled"
    LOST = "lost"  # the lease; or the end could not be reported, and the lease will be
    HANDED_BACK = "handed_back"


class Attempt:
    """The run of one claim. `outcome` is None until the attempt is over; `bytes` are those read so far."""

    def __init__(self, queue: BuildQueue, aggregate: Aggregate, settings: BuilderSettings, claim: Claim) -> None:
        self.claim = claim
        self.outcome: Outcome | None = None
        self.retry_seconds = 0.0  # the back-off, until which a build that is tried again may not be claimed
        self.bytes = 0
        self._queue = queue
        self._aggregate = aggregate
        self._settings = settings
        self._stopped: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._reporting = asyncio.Lock()
        self._thread: ComputationThread | None = None
        self._draining = False

    def cancel(self) -> None:
        """Stop because the build was cancelled: stop the warehouse's job as well, and report nothing."""
        self._stop(BuildCancelledElsewhereError("notified"))

    def hand_back(self) -> None:
        """Stop and let another builder go on with the build: the warehouse's job runs on."""
        self._stop(BuildAbandonedError())

    def drain(self) -> None:
        """Finish, for the builder stops; but hand the build back rather than wait for a busy warehouse."""
        self._draining = True
        if self._thread:
            self._thread.drain()

    @property
    def stage(self) -> str:
        """Return the stage of the build."""
        return self._thread.stage if self._thread else ""

    def check(self) -> None:
        """Renew the lease now, which shows whether the build is still this attempt's."""
        if self._thread:
            self._thread.wake()

    async def run(self) -> None:
        """Run the attempt to its end; raise nothing but the cancellation of its task."""
        context = structlog.contextvars.bound_contextvars(build_id=str(self.claim.build_id), attempt=self.claim.attempt)
        with context, self._span() as attempt_span:
            self.outcome = await self._outcome()
            fields = {"probe": self.claim.probe, "bytes": self.bytes}
            log.info("attempt_ended", outcome=self.outcome.value, **fields)
            attempt_span.set_attributes({"build.outcome": self.outcome.value, "build.bytes": self.bytes})
            if self.outcome in (Outcome.FAILED, Outcome.RETRIED, Outcome.LOST):
                fail(attempt_span, self.outcome.value)

    def _span(self) -> AbstractContextManager[Span]:
        """Return the attempt's span, which belongs to the trace of the request for the build, if that was traced."""
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
        except BuildAbandonedError:  # another builder is to go on with it
            return await self._reported(partial(self._queue.hand_back, self.claim), Outcome.HANDED_BACK)
        except BuildError as error:
            return await self._failed(error.code, str(error), retry=isinstance(error, TransientBuildError))
        except (LeaseLostError, *UNAVAILABLE) as error:
            # A result that could not be stored is not lost: the next attempt adopts the job in the warehouse.
            log.warning("lease_lost", error=repr(error))
            return Outcome.LOST
        except Exception:
            log.exception("attempt_crashed")
            return await self._failed("internal", "the builder failed; its log says why", retry=True)

    async def _build(self) -> int:
        """Aggregate the probe, store its rows, and return how many these are."""
        claim = self.claim
        if self._stopped.done():
            raise self._stopped.result()
        request = claim.request(datetime.now(UTC).date())
        thread = ComputationThread(self._aggregate, request, self._admit, f"build {claim.build_id}")
        self._thread = thread
        if self._draining:
            thread.drain()
        pulse = asyncio.create_task(self._keep_lease(thread))
        try:
            built = await self._result(thread, pulse)
            self.bytes = built.bytes_processed
            with span("store"):
                return await _retried_while_away(lambda: self._queue.complete(claim, built.rows, built.bytes_processed))
        except BuildCancelledElsewhereError:
            await thread.cancel()
            raise
        finally:
            thread.abandon()
            await _end(pulse)

    async def _result(self, thread: ComputationThread, pulse: asyncio.Task[None]) -> BuiltProbe:
        """Return the thread's result; raise when the build is stopped, its lease is lost or its time is over."""
        seconds = self._settings.build_seconds
        waiting: set[asyncio.Future[BuiltProbe] | asyncio.Future[Exception] | asyncio.Task[None]]
        waiting = {thread.result, pulse, self._stopped}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._stopped.done():
            raise self._stopped.result()
        if pulse.done():
            pulse.result()  # raises
        if not thread.result.done():
            raise TransientBuildError(
                "timeout", f"the build took longer than {seconds:g} s, to {thread.stage}; its job is adopted next time"
            )
        return thread.result.result()

    async def _keep_lease(self, thread: ComputationThread) -> None:
        """Renew the lease with each step and in between; raise when the build is no longer this attempt's."""
        while True:
            await thread.moved(self._settings.lease_seconds / 3)
            try:
                async with self._reporting:
                    await self._report(thread)
            except UNAVAILABLE as error:
                log.warning("heartbeat_missed", error=repr(error))
                await asyncio.sleep(AGAIN_SECONDS)
                thread.wake()

    async def _report(self, thread: ComputationThread) -> None:
        step = thread.take_step()
        if step is None:
            await self._queue.heartbeat(self.claim)
            return
        self.bytes = max(self.bytes, step.bytes)
        await self._queue.heartbeat(self.claim, step.stage, step.percent, self.bytes)

    async def _admit(self, read: int, needed: int) -> None:
        """Reserve the bytes that the next statement needs; raise PermanentBuildError beyond the day's limit."""
        try:
            async with self._reporting:
                await _retried_while_away(lambda: self._reserve(read, needed))
        except UNAVAILABLE as error:
            raise TransientBuildError("databaseAway", f"nothing is read without an account of it: {error!r}") from error

    async def _reserve(self, read: int, needed: int) -> None:
        # Reserved first, compared with the limit then: of two builders at the same time both may be refused, but both
        # are never let in beyond the limit.
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
        """Report the outcome and return it; return CANCELLED or LOST when the build has been taken away meanwhile."""
        try:
            await _retried_while_away(report)
        except BuildCancelledElsewhereError:
            return Outcome.CANCELLED
        except (LeaseLostError, *UNAVAILABLE) as error:
            log.warning("end_not_reported", outcome=outcome.value, error=repr(error))
            return Outcome.LOST
        return outcome

    def _stop(self, why: Exception) -> None:
        if not self._stopped.done():
            self._stopped.set_result(why)

    def _backoff(self) -> timedelta:
        longest = min(LONGEST_BACKOFF_SECONDS, self._settings.retry_seconds * 2 ** (self.claim.attempt - 1))
        return timedelta(seconds=longest * _random.uniform(0.5, 1))


async def _retried_while_away(call: Callable[[], Awaitable[Result]]) -> Result:
    """Return the result of the call, which is made again while the database is away, for DATABASE_AWAY_SECONDS."""
    deadline = time.monotonic() + DATABASE_AWAY_SECONDS
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
        task.exception()  # retrieved, or asyncio complains: the error does not matter any more
