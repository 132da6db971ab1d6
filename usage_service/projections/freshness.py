"""How fresh the projections are: what they have seen, and waiting until they have seen an event."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

import asyncpg
import structlog

from usage_service.log.following import Tail, wait_for_growth
from usage_service.projections.state import Projection
from usage_service.queries import query
from usage_service.shared.postgres import UNAVAILABLE, Connection, Pool

POLL_SECONDS = 0.04  # another process may fold: nobody tells us
PAUSE_SECONDS = 0.01  # so that there are at most a hundred looks a second, however often we are woken
IDLE_SECONDS = 1.0
LOOK_SECONDS = 5.0
MOST_WAITING = 10_000

log = structlog.get_logger(__name__)

Marks = tuple[tuple[UUID, int], ...]


class Seen(NamedTuple):
    """Every event up to `position` is seen; `marks` change whenever rows do."""

    position: int
    marks: Marks


async def seen_by(connection: Connection, *projections: Projection) -> Seen:
    """What the projections show now, in one statement and without holding anything: see `snapshot` for their rows."""
    rows = await connection.fetch(query("projections", "marks"), projections, timeout=LOOK_SECONDS)
    return Seen(min(row["position"] for row in rows), tuple((row["generation"], row["changed_at"]) for row in rows))


class _Waiter:
    def __init__(self, projections: Collection[Projection], position: int, deadline: float) -> None:
        self.projections = projections
        self.position = position
        self.deadline = deadline
        self.reached: asyncio.Future[bool] = asyncio.get_running_loop().create_future()


class Positions:
    """Lets any number of requests wait for positions; `run` looks for all of them with one query at a time."""

    def __init__(self, pool: Pool, folded: Tail) -> None:
        self._pool = pool
        self._folded = folded
        self._known: dict[str, int] = {}
        self._waiting: list[_Waiter] = []

    def known(self, projections: Collection[Projection]) -> dict[str, int]:
        """Where each was when last looked at."""
        return {name: self._known.get(name, 0) for name in projections}

    async def reach(self, projections: Collection[Projection], position: int, seconds: float) -> bool:
        """Whether all are at `position` within `seconds` (0: now); raises one of UNAVAILABLE when nobody can tell."""
        if self._are_at(projections, position):
            return True
        if len(self._waiting) >= MOST_WAITING:
            return False
        waiter = _Waiter(projections, position, asyncio.get_running_loop().time() + seconds)
        self._waiting.append(waiter)
        self._folded.wake()  # only a hint: has `run` look at once
        async with asyncio.timeout(seconds + LOOK_SECONDS):
            return await waiter.reached

    async def run(self) -> None:
        """Looks until cancelled, as long as somebody waits."""
        while True:
            signal = self._folded.signal
            if self._waiting:
                await self._look()
            await asyncio.sleep(PAUSE_SECONDS)
            await wait_for_growth(signal, POLL_SECONDS if self._waiting else IDLE_SECONDS)

    async def _look(self) -> None:
        asked = self._waiting[:]  # who comes while we look is not answered with what was before
        try:
            async with asyncio.timeout(LOOK_SECONDS), self._pool.acquire() as connection:
                self._known = {row[0]: row[1] for row in await connection.fetch(query("freshness", "positions"))}
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
