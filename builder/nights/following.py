"""A night as whoever asked for it sees it: how far it is, and what was not built."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
import structlog

from builder.queries import query
from usage_service.shared.errors import UserError
from usage_service.shared.postgres import UNAVAILABLE, Pool, borrow

POLL_SECONDS = 0.5
AWAY_SECONDS = 60.0  # after which a database that is away ends the following
CALL_SECONDS = 10.0

log = structlog.get_logger(__name__)


class NoSuchNightError(UserError):
    """The database has no night of this id."""


class NightState(msgspec.Struct, frozen=True):
    """A night in numbers. `bytes` were read of the `expected_bytes`; `to_build` probes are still to be built."""

    night_id: UUID
    state: str
    error: dict[str, str] | None
    product: str
    channel: str
    requested_at: datetime
    finished_at: datetime | None
    probes: int
    probes_left: int
    not_needed: int
    built: int
    without_data: int
    failed: int
    cancelled: int
    to_build: int
    jobs: int
    jobs_over: int
    bytes: int
    expected_bytes: int

    @property
    def is_over(self) -> bool:
        """Return whether all of its probes are built, failed, cancelled or left."""
        return self.state == "over"

    @property
    def done(self) -> int:
        """Return the number of probes about which nothing is to be done any more."""
        return self.probes - self.to_build


class NotBuilt(NamedTuple):
    """A probe that was not built: left for the bytes that it would add, failed with an error, or not to be tried."""

    probe: str
    outcome: str
    bytes: int | None
    code: str | None
    message: str | None


class Following:
    """The following of a night, by whoever asked for it."""

    def __init__(self, pool: Pool, night_id: UUID) -> None:
        self._pool = pool
        self._night_id = night_id

    async def state(self) -> NightState:
        """Return how far a night is."""
        async with borrow(self._pool, CALL_SECONDS) as connection:
            row = await connection.fetchrow(query("nights", "night"), self._night_id)
        if row is None:
            raise NoSuchNightError(f"the database of DATABASE_URL has no night {self._night_id}: is it the service's?")
        return msgspec.convert(dict(row), NightState)

    async def not_built(self) -> list[NotBuilt]:
        """Return the probes that failed, those that were left, and those that cannot be built."""
        async with borrow(self._pool, CALL_SECONDS) as connection:
            rows = await connection.fetch(query("nights", "not_built"), self._night_id)
        return [NotBuilt(*row) for row in rows]

    async def until_over(self, show: Callable[[NightState], None]) -> NightState:
        """Show how far a night is until it is over, and return how it ended.

        Raise one of UNAVAILABLE when the database is away for longer than AWAY_SECONDS: the night goes on all the same.
        """
        heard = time.monotonic()
        while True:
            try:
                state = await self.state()
            except UNAVAILABLE as error:
                if time.monotonic() - heard > AWAY_SECONDS:
                    raise
                log.info("database_away", error=repr(error))
            else:
                heard = time.monotonic()
                show(state)
                if state.is_over:
                    return state
            await asyncio.sleep(POLL_SECONDS)
