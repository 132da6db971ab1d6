"""The health of recording: known from the commits of events and, where there are none, from a probe."""

from __future__ import annotations

import asyncio
import time

import asyncpg
import structlog

from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Pool, borrow

PROBE_SECONDS = 1.5  # between probes; with what one may take, a fault is known within five seconds
TIMEOUT_SECONDS = 2.0
# For so long a commit of events that failed outweighs a probe that works: a probe needs no new page on a full disk.
COMMIT_COUNTS_SECONDS = 5.0

log = structlog.get_logger(__name__)


class RecordingHealth:
    """The last success of recording against the last failure. `run` probes while nobody records."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._succeeded_at = 0.0
        self._refused_at = 0.0
        self._failing_since: float | None = None
        self._why = ""

    def succeed(self) -> None:
        """Say that something was recorded."""
        if self._failing_since is not None:
            log.info("recording_works_again", seconds=round(time.monotonic() - self._failing_since, 1))
        self._succeeded_at, self._failing_since = time.monotonic(), None

    def fail(self, error: BaseException) -> None:
        """Say that events were not recorded, and why."""
        self._refused_at = time.monotonic()
        self._set_failing(error)

    def _set_failing(self, error: BaseException) -> None:
        self._why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        if self._failing_since is None:
            self._failing_since = time.monotonic()
            log.error("events_cannot_be_recorded", error=self._why)

    @property
    def failing_seconds(self) -> float:
        """The seconds since when nothing could be recorded; 0 while all is well."""
        return 0.0 if self._failing_since is None else time.monotonic() - self._failing_since

    @property
    def state(self) -> str:
        """`ok`, or what keeps events from being recorded and for how long."""
        if self._failing_since is None:
            return "ok"
        return f"events cannot be recorded for {self.failing_seconds:.0f} s: {self._why}"

    async def run(self) -> None:
        """Probe until cancelled, whenever nothing was recorded for PROBE_SECONDS."""
        while True:
            left = self._succeeded_at + PROBE_SECONDS - time.monotonic()
            if left <= 0:
                await self._probe()
                left = PROBE_SECONDS
            await asyncio.sleep(left)

    async def _probe(self) -> None:
        try:
            async with borrow(self._pool, TIMEOUT_SECONDS) as connection:
                await connection.execute(query("health", "probe_recording"))
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            self._set_failing(error)
        else:
            if time.monotonic() - self._refused_at >= COMMIT_COUNTS_SECONDS:
                self.succeed()
