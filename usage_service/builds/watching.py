"""Long polling for changes of builds and nights: any number of requests share one query at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Generic, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import structlog

from usage_service.builds.nights import NightWithJobs, find_nights
from usage_service.builds.requests import Build, find_builds
from usage_service.shared.postgres import UNAVAILABLE, Connection, Pool, borrow

CHANNEL, NIGHT_CHANNEL = "build_changed", "night_changed"
POLL_SECONDS = 1.0  # a notification may be lost
PAUSE_SECONDS = 0.01  # at most a hundred queries a second, however many notifications come
QUERY_SECONDS = 5.0
CALLER_CHECK_SECONDS = 1.0  # how often to check whether the caller is still connected
MOST_WAITING = 10_000

log = structlog.get_logger(__name__)

Item = TypeVar("Item")
Read: TypeAlias = Callable[[Connection, Collection[UUID]], Awaitable[list[Item]]]
"""Reading of items by their ids, without those that do not exist."""


class _Waiter(Generic[Item]):
    def __init__(self, item_id: UUID, enough: Callable[[Item], bool]) -> None:
        self.item_id = str(item_id)
        self.enough = enough
        self.latest: Item | None = None
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def see(self, item: Item) -> None:
        self.latest = item
        if self.enough(item):
            self.wake()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class Watch(Generic[Item]):
    """Watch that wakes the requests that wait for a build, or a night, when it has changed.

    `hear` is called on each notification; `run` reads the items that may have changed.
    """

    def __init__(self, pool: Pool, read: Read[Item], id_of: Callable[[Item], UUID]) -> None:
        self._pool = pool
        self.read = read
        self._id_of = id_of
        self._waiters: dict[str, set[_Waiter[Item]]] = {}
        self._to_read: set[str] = set()
        self._notified = asyncio.Event()
        self.waiting = 0
        self.closed = False

    @property
    def has_room(self) -> bool:
        """Return whether one more request may wait."""
        return self.waiting < MOST_WAITING and not self.closed

    def hear(self, item_id: str) -> None:
        """Note that an item may have changed."""
        if item_id in self._waiters:
            self._to_read.add(item_id)
            self._notified.set()

    def hear_any(self) -> None:
        """Note that any item may have changed."""
        self._to_read.update(self._waiters)
        self._notified.set()

    def close(self) -> None:
        """End all waits, and later ones, within a second: the server is about to stop."""
        self.closed = True

    async def change(
        self, item_id: UUID, enough: Callable[[Item], bool], seconds: float, left: Callable[[], bool] = lambda: False
    ) -> Item | None:
        """Wait until an item is `enough`, for so many seconds at most, or until the caller has `left`.

        Return the item as it was last read, or None when it was not read.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        with self._waiter(item_id, enough) as waiter:
            while not (waiter.woken.done() or self.closed or left()):
                remaining = deadline - asyncio.get_running_loop().time()
                if remaining <= 0:
                    break
                await asyncio.wait({waiter.woken}, timeout=min(remaining, CALLER_CHECK_SECONDS))
        return waiter.latest

    async def run(self) -> None:
        """Read the items that requests wait for, until cancelled."""
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
    def _waiter(self, item_id: UUID, enough: Callable[[Item], bool]) -> Iterator[_Waiter[Item]]:
        waiter = _Waiter(item_id, enough)
        others = self._waiters.setdefault(waiter.item_id, set())
        others.add(waiter)
        self.waiting += 1
        self.hear(waiter.item_id)  # it may have changed since the caller read it
        try:
            yield waiter
        finally:
            self.waiting -= 1
            others.remove(waiter)
            if not others:
                del self._waiters[waiter.item_id]

    async def _until_notified(self, poll_at: float) -> None:
        try:
            async with asyncio.timeout_at(poll_at):
                await self._notified.wait()
        except TimeoutError:
            return

    async def _read(self, item_ids: Collection[str]) -> None:
        try:
            async with borrow(self._pool, QUERY_SECONDS) as connection:
                items = await self.read(connection, [UUID(item_id) for item_id in item_ids])
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("changes_not_seen", error=repr(error))
            return
        for item in items:
            for waiter in self._waiters.get(str(self._id_of(item)), ()):
                waiter.see(item)


def watch_builds(pool: Pool) -> Watch[Build]:
    """Return a watch of builds."""
    return Watch(pool, find_builds, lambda build: build.build_id)


def watch_nights(pool: Pool) -> Watch[NightWithJobs]:
    """Return a watch of nights."""
    return Watch(pool, find_nights, lambda night: night.night_id)
