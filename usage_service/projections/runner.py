"""The runners that keep projections up with the log, together as long as they can be, and each failing for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import asyncpg
import structlog

from usage_service.projections.pace import EAGER, PATIENT, REST_SECONDS, Pace, pace_of
from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Connection, Pool

BATCH_POSITIONS = 20_000
POLL_SECONDS = 1.0
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


class _Runner:
    """Folding of one or several live projections, woken by new events and by polling."""

    def __init__(self, pool: Pool, pace: Pace, turns: asyncio.Semaphore, moved: Callable[[], None]) -> None:
        self._pool = pool
        self._pace = pace
        self._turns = turns
        self._moved = moved
        self._wake = asyncio.Event()
        self._rest = REST_SECONDS

    def wake(self) -> None:
        """Say that there may be new events."""
        self._wake.set()

    async def _until_woken(self) -> None:
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return
        finally:
            self._wake.clear()

    def _folded(self, folds: Mapping[str, Fold], seconds: float) -> None:
        self._rest = self._pace.rest_after(
            seconds, max((fold.now_at - fold.was_at for fold in folds.values()), default=0)
        )
        for projection, fold in folds.items():
            if fold.set_aside:
                log.warning("events_set_aside", projection=projection, events=fold.set_aside, upto=fold.now_at)
        self._moved()


class Runner(_Runner):
    """The runner of one live projection: of one that was added, and of any that is far behind the others or fails."""

    def __init__(self, pool: Pool, projection: str, turns: asyncio.Semaphore, moved: Callable[[], None]) -> None:
        super().__init__(pool, pace_of(projection), turns, moved)
        self._projection = projection
        self._folder = Folder(projection)

    async def run(self, *, is_added: bool = True) -> None:
        """Fold until cancelled, until the projection is dropped or, where it was not added, until it has caught up."""
        while True:
            await asyncio.sleep(self._rest)
            try:
                await self._catch_up()
            except NoProjectionError:
                return
            except (*UNAVAILABLE, asyncpg.PostgresError, UnfoldableError) as error:
                log.error("projection_failed", projection=self._projection, error=str(error) or repr(error))
                await asyncio.sleep(AFTER_FAILURE_SECONDS)  # new events do not help: not woken by them
                continue
            if not is_added:
                return
            await self._until_woken()

    async def _catch_up(self) -> None:
        while True:
            async with self._turns, self._pool.acquire(timeout=5) as connection:
                began = time.monotonic()
                fold = await self._folder.fold(connection)
            self._folded({self._projection: fold}, time.monotonic() - began)
            # Unmoved behind the end: another process folds it just now.
            if fold.now_at in (fold.log_end, fold.was_at):
                return


class JointRunner(_Runner):
    """The runner of live projections that are folded together, batch by batch, while none of them fails."""

    def __init__(
        self, pool: Pool, pace: Pace, turns: asyncio.Semaphore, moved: Callable[[], None], part: Callable[[str], None]
    ) -> None:
        super().__init__(pool, pace, turns, moved)
        self._part = part
        self.projections: set[str] = set()

    async def run(self) -> None:
        """Fold until cancelled, and part from those that have to be folded by themselves."""
        while True:
            await asyncio.sleep(self._rest)
            try:
                await self._catch_up()
            except UNAVAILABLE as error:
                log.error("projections_failed", projections=sorted(self.projections), error=str(error) or repr(error))
                await asyncio.sleep(AFTER_FAILURE_SECONDS)
                continue
            await self._until_woken()

    async def _catch_up(self) -> None:
        while self.projections:
            began = time.monotonic()
            try:
                folds = await self._fold(list(self.projections))
            except asyncpg.PostgresError as error:
                if isinstance(error, UNAVAILABLE) and not isinstance(error, asyncpg.QueryCanceledError):
                    raise
                self._leave(set(self.projections))  # whose fault it is, each finds out
                return
            self._folded(folds, time.monotonic() - began)
            now_at = max((fold.now_at for fold in folds.values()), default=0)
            self._leave({name for name, fold in folds.items() if fold.now_at < now_at})
            if all(now_at in (fold.log_end, fold.was_at) for fold in folds.values() if fold.now_at == now_at):
                return

    async def _fold(self, projections: list[str]) -> dict[str, Fold]:
        async with self._turns, self._pool.acquire(timeout=5) as connection:
            rows = await connection.fetch(query("projections", "advance_together"), projections, BATCH_POSITIONS)
        return {name: Fold(*fold) for name, *fold in rows}

    def _leave(self, projections: set[str]) -> None:
        self.projections -= projections
        for projection in projections:
            self._part(projection)


class Runners:
    """The runners of all live projections, those added and dropped meanwhile included."""

    def __init__(self, pool: Pool, moved: Callable[[], None]) -> None:
        self._pool = pool
        self._moved = moved
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._group = asyncio.TaskGroup()
        self._joint = {pace: JointRunner(pool, pace, self._turns, moved, self._start) for pace in (EAGER, PATIENT)}
        self._apart: dict[str, Runner] = {}

    def wake(self) -> None:
        """Say that there may be new events."""
        for runner in (*self._joint.values(), *self._apart.values()):
            runner.wake()

    async def run(self) -> None:
        """Run them until cancelled; raise when one of them dies."""
        async with self._group:
            for joint in self._joint.values():
                self._group.create_task(joint.run(), name="projections")
            while True:
                for projection, is_added in await self._wanted():
                    if projection in self._apart:
                        continue
                    if is_added:
                        self._start(projection, is_added=True)
                    else:
                        self._joint[pace_of(projection)].projections.add(projection)
                await asyncio.sleep(POLL_SECONDS)

    async def _wanted(self) -> list[tuple[str, bool]]:
        try:
            async with self._pool.acquire(timeout=5) as connection:
                return [tuple(row) for row in await connection.fetch(query("projections", "live"))]
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.error("projections_not_listed", error=repr(error))
            return []

    def _start(self, projection: str, *, is_added: bool = False) -> None:
        self._apart[projection] = Runner(self._pool, projection, self._turns, self._moved)
        self._group.create_task(self._run_apart(projection, is_added), name=f"projection {projection}")

    async def _run_apart(self, projection: str, is_added: bool) -> None:
        await self._apart[projection].run(is_added=is_added)
        del self._apart[projection]
        if not is_added:
            self._joint[pace_of(projection)].projections.add(projection)
