"""Orphaned jobs: those that the warehouse goes on with, and bills for, though their build was cancelled.

Their builder died before it could stop them: a builder that lives stops the jobs of a cancelled build itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import structlog

from builder.queue import BuildQueue
from usage_service.shared.bigquery.errors import WorkError
from usage_service.shared.postgres import UNAVAILABLE
from usage_service.shared.threads import in_thread

StopJobs = Callable[[UUID], Sequence[str]]
"""Stops all jobs of a build and returns their ids. Blocks for a bounded time; raises WorkError when it cannot."""

log = structlog.get_logger(__name__)


def stop_no_jobs(_build_id: UUID) -> Sequence[str]:
    """Stop nothing, for builds that start no jobs."""
    return ()


class OrphanedJobs:
    """A poller of orphaned jobs: it claims cancelled builds whose jobs are not known to be stopped, and stops these."""

    def __init__(self, queue: BuildQueue, stop_jobs: StopJobs, poll_seconds: float) -> None:
        self._queue = queue
        self._stop_jobs = stop_jobs
        self._poll_seconds = poll_seconds

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            try:
                for build_id in await self._queue.claim_orphaned_jobs():
                    await self._stop(build_id)
            except UNAVAILABLE as error:
                log.warning("orphaned_jobs_unknown", error=repr(error))
            await asyncio.sleep(self._poll_seconds)

    async def _stop(self, build_id: UUID) -> None:
        try:
            stopped = await in_thread(partial(self._stop_jobs, build_id), f"jobs of {build_id}")
        except WorkError as error:  # the next builder to claim these jobs, after a lease, tries again
            log.warning("orphaned_jobs_not_stopped", build_id=str(build_id), code=error.code, message=str(error))
            return
        await self._queue.mark_jobs_stopped(build_id)
        if stopped:
            log.info("orphaned_jobs_stopped", build_id=str(build_id), job_ids=list(stopped))
