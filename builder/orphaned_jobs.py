"""Jobs that the warehouse goes on with, and bills for, though their build was cancelled: whoever began them is dead."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID

import structlog

from builder.errors import BuildError
from builder.queue import BuildQueue
from builder.threads import in_thread
from usage_service.shared.postgres import UNAVAILABLE

StopJobs = Callable[[UUID], Sequence[str]]
"""Stops all jobs of a build; which. Blocks for a bounded time, and raises BuildError where it cannot."""

log = structlog.get_logger(__name__)


def nothing_to_stop(_build_id: UUID) -> Sequence[str]:
    """Of a computation that begins no jobs."""
    return ()


class LeftJobs:
    """Looks every so often for cancelled builds whose jobs nobody has proved stopped, and stops them.

    A builder that lives has stopped them already: then there are none left.
    """

    def __init__(self, queue: BuildQueue, stop_jobs: StopJobs, poll_seconds: float) -> None:
        self._queue = queue
        self._stop_jobs = stop_jobs
        self._poll_seconds = poll_seconds

    async def run(self) -> None:
        """Looks until cancelled."""
        while True:
            try:
                for build_id in await self._queue.take_left_jobs():
                    await self._stop(build_id)
            except UNAVAILABLE as error:
                log.warning("left_jobs_unknown", error=repr(error))
            await asyncio.sleep(self._poll_seconds)

    async def _stop(self, build_id: UUID) -> None:
        try:
            stopped = await in_thread(partial(self._stop_jobs, build_id), f"jobs of {build_id}")
        except BuildError as error:  # whoever looks after the lease tries again
            log.warning("left_jobs_not_stopped", build_id=str(build_id), code=error.code, message=str(error))
            return
        await self._queue.stopped_jobs(build_id)
        if stopped:
            log.info("left_jobs_stopped", build_id=str(build_id), job_ids=list(stopped))
