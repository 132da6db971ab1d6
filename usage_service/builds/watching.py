"""Long polling for changes of builds: any number of requests share one query at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from uuid import UUID

import asyncpg
import structlog

from usage_service.builds.requests import Build, find_builds
from usage_service.shared.postgres import UNAVAILABLE, Pool, borrow

CHANNEL = "build_changed"
POLL_SECONDS = 1.0  # a notification may be lost
PAUSE_SECONDS = 0.01  # at most a hundred queries a second, however many notifications come
QUERY_SECONDS = 5.0
CALLER_CHECK_SECONDS = 1.0  # how often to check whether the caller is still connected
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
    """Watch that wakes the requests that wait for a build when it has changed.

    `hear` is called on each notification; `run` reads the builds that may have changed.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._waiters: dict[str, set[_Waiter]] = {}
        self._to_read: set[str] = set()
        self._notified = asyncio.Event()
        self.waiting = 0
        self.closed = False

    @property
    def has_room(self) -> bool:
        """Return whether one more request may wait."""
        return self.waiting < MOST_WAITING and not self.closed

    def hear(self, build_id: str) -> None:
        """Note that a build may have changed."""
        if build_id in self._waiters:
            self._to_read.add(build_id)
            self._notified.set()

    def hear_any(self) -> None:
        """Note that any build may have changed."""
        self._to_read.update(self._waiters)
        self._notified.set()

    def close(self) -> None:
        """End all waits, and later ones, within a second: the server is about to stop."""
        self.closed = True

    async def change(
        self, build_id: UUID, enough: Callable[[Build], bool], seconds: float, left: Callable[[], bool] = lambda: False
    ) -> Build | None:
        """Wait until a build is `enough`, for so many seconds at most, or until the caller has `left`.

        Return the build as it was last read, or None when it was not read.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        with self._waiter(build_id, enough) as waiter:
            while not (waiter.woken.done() or self.closed or left()):
                remaining = deadline - asyncio.get_running_loop().time()
                if remaining <= 0:
                    break
                await asyncio.wait({waiter.woken}, timeout=min(remaining, CALLER_CHECK_SECONDS))
        return waiter.latest

    async def run(self) -> None:
        """Read the builds that requests wait for, until cancelled."""
        poll_at = 0.0
        while True:
            await self._until_notified(poll_at)
            if asyncio.get_running_loop().time() >= poll_at:
                poll_at = asyncio.get_running_loop().time() + POLL_SECONDS
                self._to_read.update(self._waiters)
            self._notified.clear()
            wanted, self._to_read = self._to_read & self._waiters.keys(), set()
            if wanted:
                await self._read(wanted)
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

    async def _until_notified(self, poll_at: float) -> None:
        try:
            async with asyncio.timeout_at(poll_at):
                await self._notified.wait()
        except TimeoutError:
            return

    async def _read(self, build_ids: Collection[str]) -> None:
        try:
            async with borrow(self._pool, QUERY_SECONDS) as connection:
                builds = await find_builds(connection, [UUID(build_id) for build_id in build_ids])
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("builds_not_seen", error=repr(error))
            return
        for build in builds:
            for waiter in self._waiters.get(str(build.build_id), ()):
                waiter.see(build)
