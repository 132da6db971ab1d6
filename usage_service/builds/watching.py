"""Waiting for builds to change: any number of requests, one query at a time for all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

import asyncpg
import structlog

from usage_service.builds.requests import Build, find_builds
from usage_service.shared.postgres import UNAVAILABLE, Pool

CHANNEL = "build_changed"
POLL_SECONDS = 1.0  # a hint may be lost
PAUSE_SECONDS = 0.01  # so that there are at most a hundred looks a second, however often we are told to look
LOOK_SECONDS = 5.0
GONE_SECONDS = 1.0  # how often to ask whether whom we wait for is still there
MOST_WAITING = 10_000

log = structlog.get_logger(__name__)


class _Waiter:
    def __init__(self, build_id: UUID, enough: Callable[[Build], bool]) -> None:
        self.build_id = str(build_id)
        self.enough = enough
        self.latest: Build | None = None
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def see(self, build: Build) -> None:
        self.latest = build
        if self.enough(build):
            self.wake()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class BuildWatch:
    """Wakes those who wait for a build when it has changed. `hear` is told of changes; `run` looks what they are."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiters: dict[str, set[_Waiter]] = {}
        self._to_look_at: set[str] = set()
        self._told = asyncio.Event()
        self.waiting = 0
        self.closed = False

    @property
    def has_room(self) -> bool:
        """Whether one more request may wait."""
        return self.waiting < MOST_WAITING and not self.closed

    def hear(self, build_id: str) -> None:
        """Says that a build may have changed."""
        if build_id in self._waiters:
            self._to_look_at.add(build_id)
            self._told.set()

    def hear_any(self) -> None:
        """Says that any may have."""
        self._to_look_at.update(self._waiters)
        self._told.set()

    def close(self) -> None:
        """Ends all waits, and those to come, within a second: the server is about to stop."""
        self.closed = True

    async def change(
        self, build_id: UUID, enough: Callable[[Build], bool], seconds: float, gone: Callable[[], bool] = lambda: False
    ) -> Build | None:
        """The build as it was last seen: at once when it is `enough`, else after so many seconds, or when `gone`.

        None when it was not seen.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        with self._waiter(build_id, enough) as waiter:
            while not (waiter.woken.done() or self.closed or gone()):
                left = deadline - asyncio.get_running_loop().time()
                if left <= 0:
                    break
                await asyncio.wait({waiter.woken}, timeout=min(left, GONE_SECONDS))
        return waiter.latest

    async def run(self) -> None:
        """Looks at the builds that somebody waits for until cancelled."""
        poll_at = 0.0
        while True:
            await self._until_told(poll_at)
            if asyncio.get_running_loop().time() >= poll_at:
                poll_at = asyncio.get_running_loop().time() + POLL_SECONDS
                self._to_look_at.update(self._waiters)
            self._told.clear()
            wanted, self._to_look_at = self._to_look_at & self._waiters.keys(), set()
            if wanted:
                await self._look(wanted)
                await asyncio.sleep(PAUSE_SECONDS)

    @contextmanager
    def _waiter(self, build_id: UUID, enough: Callable[[Build], bool]) -> Iterator[_Waiter]:
        waiter = _Waiter(build_id, enough)
        others = self._waiters.setdefault(waiter.build_id, set())
        others.add(waiter)
        self.waiting += 1
        self.hear(waiter.build_id)  # it may have changed since the caller read it
        try:
            yield waiter
        finally:
            self.waiting -= 1
            others.remove(waiter)
            if not others:
                del self._waiters[waiter.build_id]

    async def _until_told(self, poll_at: float) -> None:
        try:
            async with asyncio.timeout_at(poll_at):
                await self._told.wait()
        except TimeoutError:
            return

    async def _look(self, build_ids: Collection[str]) -> None:
        try:
            async with asyncio.timeout(LOOK_SECONDS), self._pool.acquire() as connection:
                builds = await find_builds(connection, [UUID(build_id) for build_id in build_ids])
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("builds_not_seen", error=repr(error))
            return
        for build in builds:
            for waiter in self._waiters.get(str(build.build_id), ()):
                waiter.see(build)
