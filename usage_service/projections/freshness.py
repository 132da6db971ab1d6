"""Waiting until projections have folded an event, for any number of requests at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

import asyncpg
import structlog

from usage_service.log.following import GrowthSignal, wait_for_growth
from usage_service.projections.state import Projection
from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Pool, borrow

POLL_SECONDS = 0.04  # another process may fold: nobody tells us
PAUSE_SECONDS = 0.01  # at most a hundred queries a second, however often we are woken
IDLE_SECONDS = 1.0
READ_SECONDS = 5.0
MOST_WAITING = 10_000

log = structlog.get_logger(__name__)


class _Waiter:
    def __init__(self, projections: Collection[Projection], position: int, deadline: float) -> None:
        self.projections = projections
        self.position = position
        self.deadline = deadline
        self.reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Positions:
    """The positions of the live projections, read for all requests that wait by one query at a time (`run`)."""

    def __init__(self, pool: Pool, folded: GrowthSignal) -> None:
        self._pool = pool
        self._folded = folded
        self._known: dict[str, int] = {}
        self._waiting: list[_Waiter] = []

    def known(self, projections: Collection[Projection]) -> dict[str, int]:
        """Return the position of each when last read."""
        return {name: self._known.get(name, 0) for name in projections}

    async def reach(self, projections: Collection[Projection], position: int, seconds: float) -> bool:
        """Return whether all reach `position` within `seconds` (0: now).

        Raise one of UNAVAILABLE when the database does not say.
        """
        if self._are_at(projections, position):
            return True
        if len(self._waiting) >= MOST_WAITING:
            return False
        waiter = _Waiter(projections, position, asyncio.get_running_loop().time() + seconds)
        self._waiting.append(waiter)
        self._folded.wake()  # only a hint: has `run` read at once
        async with asyncio.timeout(seconds + READ_SECONDS):
            return await waiter.reached

    async def run(self) -> None:
        """Read the positions until cancelled, as long as somebody waits."""
        while True:
            signal = self._folded.signal
            if self._waiting:
                await self._read()
            await asyncio.sleep(PAUSE_SECONDS)
            await wait_for_growth(signal, POLL_SECONDS if self._waiting else IDLE_SECONDS)

    async def _read(self) -> None:
        asked = self._waiting[:]  # whoever comes meanwhile is not answered with what was before
        try:
            async with borrow(self._pool, READ_SECONDS) as connection:
                self._known = {row[0]: row[1] for row in await connection.fetch(query("projections", "positions"))}
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            log.warning("positions_unknown", error=repr(error))
            for waiter in asked:
                if not waiter.reached.done():
                    waiter.reached.set_exception(ConnectionError("the positions are not known"))
        else:
            self._tell(asked)
        self._waiting = [waiter for waiter in self._waiting if not waiter.reached.done()]

    def _tell(self, asked: list[_Waiter]) -> None:
        now = asyncio.get_running_loop().time()
        for waiter in asked:
            reached = self._are_at(waiter.projections, waiter.position)
            if (reached or now >= waiter.deadline) and not waiter.reached.done():
                waiter.reached.set_result(reached)

    def _are_at(self, projections: Collection[Projection], position: int) -> bool:
        return min(self.known(projections).values()) >= position
