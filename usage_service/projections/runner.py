"""The runners that keep projections up with the log, woken by notifications and by polling; each fails for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import NamedTuple

import asyncpg
import structlog

from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Connection, Pool

BATCH_POSITIONS = 20_000
POLL_SECONDS = 1.0
# Between folds: many small batches cost more than one. After more than a few events the rest grows with what the fold
# took, so that batches grow with the load and an event costs less; it is folded within a second even so.
PAUSE_SECONDS = 0.03
LONGEST_PAUSE_SECONDS = 0.4
PAUSE_GROWTH = 4
FEW_EVENTS = 300
# Of those that nobody waits for, and that are five times dearer in small batches.
LONGER_PAUSES = {"journeys": 0.5, "timeseries": 0.5}
AFTER_FAILURE_SECONDS = 5.0
AT_ONCE = 4
NO_PROJECTION = "UB004"

log = structlog.get_logger(__name__)


class Fold(NamedTuple):
    """The result of folding a batch: the position before and after, the end of the log, and the events set aside."""

    was_at: int
    now_at: int
    log_end: int
    set_aside: int


class UnfoldableError(Exception):
    """Raised when a projection cannot go on after `position`; `why` is the database's message."""

    def __init__(self, projection: str, position: int, why: str) -> None:
        super().__init__(f"{projection} cannot go on after position {position}: {why}")
        self.position = position
        self.why = why


class NoProjectionError(Exception):
    """Raised when there is no such projection, or not any more."""


class Folder:
    """The folding of one projection, batch by batch.

    The database sets aside what cannot be folded; when a batch fails nonetheless, this finds out where.
    """

    def __init__(self, projection: str, stage: str = "live", batch: int = BATCH_POSITIONS) -> None:
        self._projection = projection
        self._stage = stage
        self._most = batch
        self._batch = batch

    async def fold(self, connection: Connection) -> Fold:
        """Fold the next batch.

        Raise UnfoldableError, remembered in the database, once it is down to one event, and NoProjectionError.
        """
        while True:
            # Known before the attempt: should another process move on meanwhile, the failure is not of the next event.
            position = await self._position(connection) if self._batch == 1 else 0
            try:
                [row] = await connection.fetch(
                    query("projections", "advance"), self._projection, self._batch, self._stage
                )
            except asyncpg.PostgresError as error:
                if error.sqlstate == NO_PROJECTION:
                    raise NoProjectionError(str(error)) from None
                if isinstance(error, UNAVAILABLE) and not isinstance(error, asyncpg.QueryCanceledError):
                    raise
                if self._batch == 1:
                    raise await self._unfoldable(connection, position, str(error)) from error
                self._batch = max(1, self._batch // 10)
            else:
                self._batch = min(self._most, self._batch * 2)
                return Fold(*row)

    async def _position(self, connection: Connection) -> int:
        position: int | None
        position = await connection.fetchval(query("projections", "position"), self._projection, self._stage)
        if position is None:
            raise NoProjectionError(f"there is no {self._stage} projection {self._projection}")
        return position

    async def _unfoldable(self, connection: Connection, position: int, why: str) -> UnfoldableError:
        await connection.execute(query("projections", "fail"), self._projection, self._stage, position, why)
        return UnfoldableError(self._projection, position, why)


def pause_after(seconds: float, events: int, shortest: float = PAUSE_SECONDS) -> float:
    """Return how long to rest after a fold of so many events that took so long."""
    if events <= FEW_EVENTS:
        return shortest
    longer = PAUSE_SECONDS + PAUSE_GROWTH * (seconds - PAUSE_SECONDS)
    return max(shortest, min(longer, LONGEST_PAUSE_SECONDS))


class Runner:
    """The runner of one live projection."""

    def __init__(self, pool: Pool, projection: str, turns: asyncio.Semaphore, moved: Callable[[], None]) -> None:
        self._pool = pool
        self._projection = projection
        self._turns = turns
        self._moved = moved
        self._folder = Folder(projection)
        self._wake = asyncio.Event()
        self._shortest = self._pause = LONGER_PAUSES.get(projection, PAUSE_SECONDS)

    def wake(self) -> None:
        """Say that there may be new events."""
        self._wake.set()

    async def run(self) -> None:
        """Fold until cancelled, or until the projection is dropped."""
        while True:
            await asyncio.sleep(self._pause)
            try:
                await self._catch_up()
            except NoProjectionError:
                return
            except (*UNAVAILABLE, asyncpg.PostgresError, UnfoldableError) as error:
                log.error("projection_failed", projection=self._projection, error=str(error) or repr(error))
                await asyncio.sleep(AFTER_FAILURE_SECONDS)  # new events do not help: not woken by them
                continue
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await self._wake.wait()
            except TimeoutError:
                continue
            finally:
                self._wake.clear()

    async def _catch_up(self) -> None:
        while True:
            async with self._turns, self._pool.acquire(timeout=5) as connection:
                began = time.monotonic()
                fold = await self._folder.fold(connection)
            self._pause = pause_after(time.monotonic() - began, fold.now_at - fold.was_at, self._shortest)
            if fold.set_aside:
                log.warning("events_set_aside", projection=self._projection, events=fold.set_aside, upto=fold.now_at)
            self._moved()
            # Unmoved behind the end: another process folds it just now.
            if fold.now_at in (fold.log_end, fold.was_at):
                return


class Runners:
    """A runner for each live projection, those added and dropped meanwhile included."""

    def __init__(self, pool: Pool, moved: Callable[[], None]) -> None:
        self._pool = pool
        self._moved = moved
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._runners: dict[str, Runner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Say that there may be new events."""
        for runner in self._runners.values():
            runner.wake()

    async def run(self) -> None:
        """Run them until cancelled; raise when one of them dies."""
        async with asyncio.TaskGroup() as group:
            while True:
                for projection in await self._wanted():
                    if projection not in self._tasks or self._tasks[projection].done():
                        self._start(group, projection)
                await asyncio.sleep(POLL_SECONDS)

    async def _wanted(self) -> list[str]:
        try:
            async with self._pool.acquire(timeout=5) as connection:
                return [row["name"] for row in await connection.fetch(query("projections", "live"))]
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.error("projections_not_listed", error=repr(error))
            return []

    def _start(self, group: asyncio.TaskGroup, projection: str) -> None:
        runner = Runner(self._pool, projection, self._turns, self._moved)
        self._runners[projection] = runner
        self._tasks[projection] = group.create_task(runner.run(), name=f"projection {projection}")
