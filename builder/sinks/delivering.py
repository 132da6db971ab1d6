"""The deliverer of a sink takes rows there, a batch at a time, and tries again what fails. No build waits for it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import NamedTuple

import structlog

from builder.fencing import LeaseLostError
from builder.metrics import BuilderMetrics, DeliveryOutcome
from builder.settings import BuilderSettings
from builder.sinks.glam_tables import CHANNELS, PRODUCTS, Delivered, WriteRows
from builder.sinks.outbox import READ_SECONDS, Batch, Claim, Outbox
from builder.sinks.parquet_rows import ParquetRows
from usage_service.shared.bigquery.control import Control
from usage_service.shared.bigquery.errors import PermanentWorkError, TransientWorkError, WorkError
from usage_service.shared.bigquery.jobs import JOBS_FAILED
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.shared.threads import in_loop, in_thread
from usage_service.shared.tracing import fail, span

Deliver = Callable[[Batch, WriteRows, Control], Delivered]
"""Takes the rows of a batch to the sink; blocks; raises WorkError when it fails."""

LONGEST_BACKOFF_SECONDS, MOST_DOUBLINGS = 600.0, 20
NOTHING = Delivered(0, 0)
_random = random.SystemRandom()  # forks do not draw alike

log = structlog.get_logger(__name__)


class Sink(NamedTuple):
    """A sink: its name, and the function that takes a batch there."""

    name: str
    deliver: Deliver


class Deliverer:
    """A poller of channels whose rows the sink lacks: it claims one, takes a batch of rows there, claims another."""

    def __init__(self, outbox: Outbox, deliver: Deliver, settings: BuilderSettings, metrics: BuilderMetrics) -> None:
        self._outbox = outbox
        self._deliver = deliver
        self._settings = settings
        self._metrics = metrics

    async def run(self) -> None:
        """Deliver until cancelled; then give back what is under way, for another builder to go on with."""
        while True:
            try:
                while await self.deliver_next():
                    pass
            except UNAVAILABLE as error:
                log.warning("outbox_unavailable", error=repr(error))
            # A random time below poll_seconds, so that builders that began together do not poll together.
            await asyncio.sleep(self._settings.poll_seconds * _random.uniform(0.8, 0.95))

    async def deliver_next(self) -> bool:
        """Deliver one batch; return False when the sink lacks nothing that may be delivered now."""
        claim = await self._outbox.claim(PRODUCTS, CHANNELS)
        if claim is None:
            return False
        about = {"sink": claim.sink, "product": claim.product, "channel": claim.channel}
        spanned = span("deliver rows", {f"delivery.{name}": value for name, value in about.items()})
        with structlog.contextvars.bound_contextvars(**about, attempt=claim.attempt), spanned as delivery_span:
            begun = time.monotonic()
            outcome = await self._outcome(claim)
            self._metrics.delivery_ended(outcome, time.monotonic() - begun)
            if outcome is not DeliveryOutcome.DELIVERED:
                fail(delivery_span, outcome.value)
        return True

    async def _outcome(self, claim: Claim) -> DeliveryOutcome:
        try:
            await self._attempt(claim)
        except asyncio.CancelledError:
            with suppress(LeaseLostError, *UNAVAILABLE):
                await self._outbox.hand_back(claim)
            raise
        except (LeaseLostError, *UNAVAILABLE) as error:  # the next attempt adopts its jobs
            log.warning("delivery_lost", error=repr(error))
            return DeliveryOutcome.LOST
        except WorkError as error:
            has_no_job = isinstance(error, PermanentWorkError) or error.code == JOBS_FAILED
            return await self._failed(claim, error.code, str(error), anew=has_no_job)
        except Exception:
            log.exception("delivery_crashed")
            return await self._failed(claim, "internal", "the builder failed; its log says why", anew=False)
        return DeliveryOutcome.DELIVERED

    async def _attempt(self, claim: Claim) -> None:
        batch = await self._outbox.plan(claim)
        # Jobs that an earlier attempt has begun are seen to their end, though later builds have taken its rows over.
        delivered = await self._taken(claim, batch) if batch.rows or batch.is_begun else NOTHING
        await self._outbox.complete(claim, timedelta(seconds=self._settings.sink_seconds))
        self._metrics.delivered(delivered.rows, delivered.bytes)
        log.info("rows_delivered", builds=len(batch.builds), rows=delivered.rows, bytes=delivered.bytes)

    async def _taken(self, claim: Claim, batch: Batch) -> Delivered:
        """Take the batch to the sink in a thread and renew the lease; raise when it is lost, or the time is over."""
        control = Control()
        work = partial(self._deliver, batch, self._writer(batch, control), control)
        thread = in_thread(work, f"deliver {batch.batch_id}")
        pulse = asyncio.create_task(self._keep_lease(claim))
        waiting: set[asyncio.Future[Delivered] | asyncio.Task[None]] = {thread, pulse}
        seconds = self._settings.build_seconds
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if pulse.done():
                pulse.result()  # raises
            if not thread.done():
                raise TransientWorkError("timeout", f"it took longer than {seconds:g} s; its jobs will be adopted")
            return thread.result()
        finally:
            control.abandon()
            pulse.cancel()
            await asyncio.wait([pulse])
            pulse.cancelled() or pulse.exception()  # retrieved, or asyncio complains

    async def _keep_lease(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(self._settings.lease_seconds / 3)
            try:
                await self._outbox.renew(claim)
            except UNAVAILABLE as error:
                log.warning("delivery_heartbeat_missed", error=repr(error))

    def _writer(self, batch: Batch, control: Control) -> WriteRows:
        loop = asyncio.get_running_loop()

        def write(rows: ParquetRows) -> None:
            in_loop(loop, self._write(batch, rows, control), READ_SECONDS)

        return write

    async def _write(self, batch: Batch, rows: ParquetRows, control: Control) -> None:
        try:
            async with self._outbox.rows(batch) as groups:
                async for records in groups:
                    control.check()
                    await in_thread(partial(rows.write, records), f"write rows {batch.batch_id}")
        except UNAVAILABLE as error:
            raise TransientWorkError("databaseAway", f"the rows could not be read: {error!r}") from error

    async def _failed(self, claim: Claim, code: str, message: str, *, anew: bool) -> DeliveryOutcome:
        seconds = self._settings.retry_seconds * 2 ** min(claim.failures, MOST_DOUBLINGS)
        backoff = timedelta(seconds=min(LONGEST_BACKOFF_SECONDS, seconds) * _random.uniform(0.5, 1))
        log.warning("delivery_failed", code=code, message=message, failures=claim.failures + 1)
        try:
            await self._outbox.fail(claim, code, message, backoff, anew=anew)
        except (LeaseLostError, *UNAVAILABLE) as error:
            log.warning("delivery_lost", error=repr(error))
            return DeliveryOutcome.LOST
        return DeliveryOutcome.FAILED
