"""One attempt at a piece of work, from claim to end: it renews the lease, keeps to the limits, reports its outcome."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from datetime import timedelta

import structlog

from builder.computation_thread import ComputationThread
from builder.database_away import AGAIN_SECONDS, retried_while_away
from builder.fencing import BuildCancelledElsewhereError, LeaseLostError
from builder.settings import BuilderSettings
from builder.work import Done, Outcome, Work
from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError, WorkAbandonedError, WorkError
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.shared.tracing import Span, SpanKind, fail, span

LONGEST_BACKOFF_SECONDS = 300.0
OUT_OF_BYTES = "dailyBytesExceeded"
_random = random.SystemRandom()  # forks do not draw alike

SPANS = {"build": "build probe", "night": "plan night", "shared_job": "build probes together"}

log = structlog.get_logger(__name__)


class Attempt:
    """The run of what was claimed. `outcome` is None until the attempt is over; `bytes` are those read so far."""

    def __init__(self, work: Work, settings: BuilderSettings) -> None:
        self.work = work
        self.outcome: Outcome | None = None
        self.retry_seconds = 0.0  # the back-off, until which a build that is tried again may not be claimed
        self.bytes = 0
        self._jobs: dict[str, int] = {}  # bytes of those that are accounted for
        self._settings = settings
        self._stopped: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()
        self._reporting = asyncio.Lock()
        self._thread: ComputationThread | None = None
        self._draining = False

    def cancel(self) -> None:
        """Stop because the work was cancelled: stop the warehouse's job as well, and report nothing."""
        self._stop(BuildCancelledElsewhereError("notified"))

    def hand_back(self) -> None:
        """Stop and let another builder go on with it: the warehouse's job runs on."""
        self._stop(WorkAbandonedError())

    def drain(self) -> None:
        """Finish, for the builder stops; but hand the work back rather than wait for a busy warehouse."""
        self._draining = True
        if self._thread:
            self._thread.drain()

    @property
    def stage(self) -> str:
        """Return the stage of the work."""
        return self._thread.stage if self._thread else ""

    def check(self) -> None:
        """Renew the lease now, which shows whether the work is still this attempt's."""
        if self._thread:
            self._thread.wake()

    async def run(self) -> None:
        """Run the attempt to its end; raise nothing but the cancellation of its task."""
        work = self.work
        context = structlog.contextvars.bound_contextvars(**{f"{work.kind}_id": str(work.id), "attempt": work.attempt})
        with context, self._span() as attempt_span:
            self.outcome = await self._outcome()
            log.info("attempt_ended", outcome=self.outcome.value, bytes=self.bytes, **work.about)
            attempt_span.set_attributes({"build.outcome": self.outcome.value, "build.bytes": self.bytes})
            if self.outcome in (Outcome.FAILED, Outcome.RETRIED, Outcome.LOST):
                fail(attempt_span, self.outcome.value)

    def _span(self) -> AbstractContextManager[Span]:
        """Return the attempt's span, which belongs to the trace of the request for the work, if that was traced."""
        work = self.work
        about: dict[str, str | int] = {f"{work.kind}.id": str(work.id), f"{work.kind}.attempt": work.attempt}
        about |= {f"{work.kind}.{name}": value for name, value in work.about.items()}
        carrier = {"traceparent": work.traceparent} if work.traceparent else {}
        return span(SPANS[work.kind], about, kind=SpanKind.CONSUMER, carrier=carrier)

    async def _outcome(self) -> Outcome:
        try:
            return await self._done()
        except BuildCancelledElsewhereError:
            return Outcome.CANCELLED
        except WorkAbandonedError:  # another builder is to go on with it
            return await self._reported(self._handed_back)
        except WorkError as error:
            return await self._failed(error.code, str(error), retry=isinstance(error, TransientWorkError))
        except (LeaseLostError, *UNAVAILABLE) as error:
            # A result that could not be stored is not lost: the next attempt adopts the job in the warehouse.
            log.warning("lease_lost", error=repr(error))
            return Outcome.LOST
        except Exception:
            log.exception("attempt_crashed")
            return await self._failed("internal", "the builder failed; its log says why", retry=True)

    async def _done(self) -> Outcome:
        """Do the work, store what it found, and return what that is."""
        if self._stopped.done():
            raise self._stopped.result()
        work = self.work
        thread = ComputationThread(work.run, self._admit, self._settle, f"{work.kind} {work.id}")
        self._thread = thread
        if self._draining:
            thread.drain()
        pulse = asyncio.create_task(self._keep_lease(thread))
        try:
            done = await self._result(thread, pulse)
            self.bytes = done.bytes
            with span("store"):
                return await retried_while_away(done.store)
        except BuildCancelledElsewhereError:
            await thread.cancel()
            raise
        finally:
            thread.abandon()
            await _end(pulse)

    async def _result(self, thread: ComputationThread, pulse: asyncio.Task[None]) -> Done:
        """Return the thread's result; raise when the work is stopped, its lease is lost or its time is over."""
        seconds = self._settings.build_seconds
        waiting: set[asyncio.Future[Done] | asyncio.Future[Exception] | asyncio.Task[None]]
        waiting = {thread.result, pulse, self._stopped}
        await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if self._stopped.done():
            raise self._stopped.result()
        if pulse.done():
            pulse.result()  # raises
        if not thread.result.done():
            raise TransientWorkError(
                "timeout",
                f"the {self.work.kind} took longer than {seconds:g} s, to {thread.stage}; its job is adopted next time",
            )
        return thread.result.result()

    async def _keep_lease(self, thread: ComputationThread) -> None:
        """Renew the lease with each step and in between; raise when the work is no longer this attempt's."""
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
        step = thread.step
        if step is None:
            await self.work.heartbeat()
            return
        self.bytes = max(self.bytes, step.bytes)
        await self.work.heartbeat(step.stage, step.percent, self.bytes)
        thread.was_reported(step)  # not before: one that could not be is reported with the next heartbeat

    async def _admit(self, job: str, needed: int) -> None:
        """Reserve the bytes that a job needs; raise PermanentWorkError beyond the day's limit."""
        limit = self._settings.most_bytes_a_day
        left = await self._accounted(job, needed, limit)
        if left is not None:
            raise PermanentWorkError(
                OUT_OF_BYTES,
                f"the next statement would read {needed:,} bytes; of the {limit:,} that may be read a day (UTC) "
                f"{left:,} are left (PROBE_BUILDER_MOST_BYTES_A_DAY)",
            )

    async def _settle(self, job: str, read: int) -> None:
        """Count what a job has read that is over, in place of what was reserved."""
        await self._accounted(job, read, None)

    async def _accounted(self, job: str, size: int, most: int | None) -> int | None:
        read = sum((self._jobs | {job: size}).values())
        try:
            async with self._reporting:
                left = await retried_while_away(lambda: self.work.account(job, size, read, most))
        except UNAVAILABLE as error:
            raise TransientWorkError("databaseAway", f"nothing is read without an account of it: {error!r}") from error
        if left is None:
            self._jobs[job] = size
            self.bytes = max(self.bytes, read)
        return left

    async def _failed(self, code: str, message: str, *, retry: bool) -> Outcome:
        backoff = self._backoff() if retry else None
        log.warning("attempt_failed", code=code, message=message, **self.work.about)
        outcome = await self._reported(lambda: self.work.fail(code, message, backoff))
        if outcome is Outcome.RETRIED and backoff:
            self.retry_seconds = backoff.total_seconds()
        return outcome

    async def _handed_back(self) -> Outcome:
        await self.work.hand_back()
        return Outcome.HANDED_BACK

    async def _reported(self, report: Callable[[], Awaitable[Outcome]]) -> Outcome:
        """Report the outcome and return it; return CANCELLED or LOST when the work has been taken away meanwhile."""
        try:
            return await retried_while_away(report)
        except BuildCancelledElsewhereError:
            return Outcome.CANCELLED
        except (LeaseLostError, *UNAVAILABLE) as error:
            log.warning("end_not_reported", error=repr(error))
            return Outcome.LOST

    def _stop(self, why: Exception) -> None:
        if not self._stopped.done():
            self._stopped.set_result(why)

    def _backoff(self) -> timedelta:
        longest = min(LONGEST_BACKOFF_SECONDS, self._settings.retry_seconds * 2 ** (self.work.attempt - 1))
        return timedelta(seconds=longest * _random.uniform(0.5, 1))


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task], timeout=1)
    if task.done() and not task.cancelled():
        task.exception()  # retrieved, or asyncio complains: the error does not matter any more
